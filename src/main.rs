//! The `quorate` binary.

use std::process::ExitCode;

/// It gives memory back and keeps threads apart; the system's allocator grows without end under
/// a storage load.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    quorate::cli::run()
}
