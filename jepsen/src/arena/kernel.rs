//! What of the kernel and the runtime has no safe wrapper.
#![expect(unsafe_code, reason = "two ioctls and the registration of a file have no safe wrapper")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::ioctl::{Setter, ioctl};
use tokio::io::unix::AsyncFd;

/// `TUNSETIFF`: gives an open `/dev/net/tun` its device.
const TUNSETIFF: u32 = 0x4004_54ca;
/// Packets of IP, without a header of the driver's own.
const TUN_WITHOUT_HEADER: u16 = 0x0001 | 0x1000;

/// `EXT4_IOC_SHUTDOWN`.
const EXT4_SHUTDOWN: u32 = 0x8004_587d;
/// At once: neither data nor journal are flushed.
const WITHOUT_FLUSH: u32 = 2;

/// The part of `struct ifreq` that `TUNSETIFF` reads, and room for the rest of it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Makes the TUN device `name` in this process's network namespace. It lives as long as the
/// file, into whatever namespace it is moved. Reads do not block.
///
/// # Errors
/// What the kernel says.
pub(super) fn open_tun(name: &str) -> io::Result<File> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open("/dev/net/tun")?;
    let mut request = InterfaceRequest { name: [0; 16], flags: TUN_WITHOUT_HEADER, rest: [0; 22] };
    if name.len() >= request.name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface's name is short"));
    }
    for (to, from) in request.name.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: TUNSETIFF reads a struct ifreq, of which this type has the layout and the size,
    // and keeps no pointer to it.
    unsafe { ioctl(&file, Setter::<TUNSETIFF, _>::new(request)) }?;
    Ok(file)
}

/// Shuts down the ext4 file system mounted at `mount`, as a loss of power would: what was not
/// synced is lost. Every later call on it fails until it is unmounted.
///
/// # Errors
/// What the kernel says.
pub(super) fn shut_down_ext4(mount: &Path) -> io::Result<()> {
    let folder = File::open(mount)?;
    // SAFETY: EXT4_IOC_SHUTDOWN reads one 32-bit number.
    unsafe { ioctl(&folder, Setter::<EXT4_SHUTDOWN, u32>::new(WITHOUT_FLUSH)) }?;
    Ok(())
}

/// Registers a file with the runtime, to wait until it can be read.
///
/// # Errors
/// What the kernel says.
pub(super) fn watch(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: the AsyncFd owns the file, so its descriptor stays open and the same.
    Ok(unsafe { AsyncFd::register(file) }?)
}
