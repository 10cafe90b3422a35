//! What the switch knows of IPv4 packets (pure).

use std::net::Ipv4Addr;

/// UDP's number in IPv4 headers.
const UDP: u8 = 17;

/// From where to where a packet goes; `None` if it is no IPv4.
#[must_use]
pub(super) fn ends(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let header = packet.first_chunk::<20>()?;
    if header[0] >> 4 != 4 {
        return None;
    }
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let target = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    Some((source, target))
}

/// Flips one bit of a UDP packet's payload, and removes the checksum so that the receiver's
/// kernel lets it through. Whether there was a payload to damage.
pub(super) fn damage(packet: &mut [u8], draw: u64) -> bool {
    let Some(&first) = packet.first() else { return false };
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || packet.get(9) != Some(&UDP) {
        return false;
    }
    // Fragments after the first have no UDP header.
    let offset = u16::from_be_bytes([packet[6] & 0x1f, packet[7]]);
    let payload = header + 8;
    if offset != 0 || packet.len() <= payload {
        return false;
    }
    let bits = (packet.len() - payload) as u64 * 8;
    let bit = draw % bits;
    let at = payload + usize::try_from(bit / 8).unwrap_or_default();
    packet[at] ^= 1 << (bit % 8);
    packet[header + 6] = 0;
    packet[header + 7] = 0;
    true
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{damage, ends};

    fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&[10, 77, 0, 1]);
        packet[16..20].copy_from_slice(&[10, 77, 0, 2]);
        packet[26..28].copy_from_slice(&[0xab, 0xcd]);
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn the_ends_of_a_packet_are_its_addresses() {
        let ends_of = ends(&packet(17, b"x"));

        assert_eq!(ends_of, Some((Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2))));
        assert_eq!(ends(&[0x60; 40]), None);
        assert_eq!(ends(&[0x45; 19]), None);
    }

    #[test]
    fn damage_flips_one_bit_of_the_payload_and_drops_the_checksum() {
        for draw in 0..80 {
            let whole = packet(17, b"0123456789");
            let mut damaged = whole.clone();

            assert!(damage(&mut damaged, draw));

            let flipped: u32 =
                whole[28..].iter().zip(&damaged[28..]).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!(flipped, 1);
            assert_eq!(damaged[..26], whole[..26]);
            assert_eq!(damaged[26..28], [0, 0]);
        }
    }

    #[test]
    fn what_has_no_udp_payload_is_left_alone() {
        for mut other in [packet(6, b"tcp"), packet(17, b""), Vec::new()] {
            let before = other.clone();

            assert!(!damage(&mut other, 7));
            assert_eq!(other, before);
        }
    }
}
