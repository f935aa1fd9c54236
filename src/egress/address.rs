//! Which addresses belong to the public internet, by the special-purpose registries of IANA (RFC 6890).

use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(a: u16, b: u16, c: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)
}

const NOT_PUBLIC_V4: [Ipv4Net; 15] = [
    // "This network"; Linux takes 0.0.0.0 for loopback.
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    // Carrier-grade NAT; some clouds keep their metadata service in it.
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    // Link-local: metadata services of most clouds.
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    // Documentation; two more below.
    v4(192, 0, 2, 0, 24),
    // Relays of 6to4.
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    // Benchmarks.
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    // Multicast.
    v4(224, 0, 0, 0, 4),
    // Reserved, and broadcast.
    v4(240, 0, 0, 0, 4),
];

/// All that is given out to hosts of the internet.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);
const NOT_PUBLIC_V6: [Ipv6Net; 4] = [
    // Protocols of the IETF, Teredo among them.
    v6(0x2001, 0, 0, 23),
    // Documentation.
    v6(0x2001, 0xdb8, 0, 32),
    v6(0x3fff, 0, 0, 20),
    // 6to4, which wraps any IPv4 address; retired by RFC 7526.
    v6(0x2002, 0, 0, 16),
];
/// Wraps IPv4 addresses for hosts that have IPv6 alone (RFC 6052).
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

/// The IPv4 address that an address leads to, if it wraps one.
pub(super) fn within(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return Some(v4.into());
    }
    let [.., a, b, c, d] = v6.octets();
    NAT64.contains(&v6).then(|| Ipv4Addr::new(a, b, c, d).into())
}

/// Whether an address is one of the public internet; of one that wraps another, the wrapped one counts.
pub(super) fn is_public(address: IpAddr) -> bool {
    match within(address).unwrap_or(address) {
        IpAddr::V4(v4) => !NOT_PUBLIC_V4.iter().any(|net| net.contains(&v4)),
        IpAddr::V6(v6) => GLOBAL_V6.contains(&v6) && !NOT_PUBLIC_V6.iter().any(|net| net.contains(&v6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn public(text: &str) -> bool {
        is_public(text.parse().unwrap())
    }

    #[test]
    fn the_internet_is_public_and_what_is_near_is_not() {
        for outside in [
            "1.1.1.1",
            "140.82.112.3",
            "11.0.0.0",
            "172.32.0.1",
            "100.128.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450::1",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ] {
            assert!(public(outside), "{outside}");
        }
        for near in [
            "0.0.0.0",
            "0.1.2.3",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.192",
            "198.19.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::101:101",
            "2002:7f00:1::",
            "2002:101:101::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "5f00::1",
        ] {
            assert!(!public(near), "{near}");
        }
    }

    proptest! {
        /// The standard library's own words for kinds of addresses, and each way to wrap an address, against ours.
        #[test]
        fn no_wrapping_makes_an_address_public(bits: u32, within_ours in 0..NOT_PUBLIC_V4.len(), is_near: bool) {
            let bits = if is_near {
                let net = NOT_PUBLIC_V4[within_ours];
                u32::from(net.network()) | (bits & u32::from(net.hostmask()))
            } else {
                bits
            };
            let plain = Ipv4Addr::from(bits);
            let public = is_public(plain.into());
            if is_near {
                prop_assert!(!public);
            }
            let is_special = plain.is_private() || plain.is_loopback() || plain.is_link_local()
                || plain.is_multicast() || plain.is_broadcast() || plain.is_documentation() || plain.is_unspecified();
            prop_assert!(!(is_special && public), "{plain}");
            let [a, b, c, d] = plain.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            let wrapped = |parts: [u16; 8]| IpAddr::V6(Ipv6Addr::from(parts));
            prop_assert_eq!(is_public(wrapped([0, 0, 0, 0, 0, 0xffff, high, low])), public);
            prop_assert_eq!(is_public(wrapped([0x64, 0xff9b, 0, 0, 0, 0, high, low])), public);
            for never in [
                wrapped([0, 0, 0, 0, 0, 0, high, low]),
                wrapped([0x2002, high, low, 0, 0, 0, 0, 1]),
                wrapped([0x64, 0xff9b, 1, 0, 0, 0, high, low]),
                wrapped([0xfe80, 0, 0, 0, 0, 0x5efe, high, low]),
                wrapped([0x2001, 0, high, low, 0, 0, high, low]),
            ] {
                prop_assert!(!is_public(never), "{never}");
            }
        }

        #[test]
        fn outside_of_2000_only_wrapped_addresses_are_public(bits: u128) {
            let address = Ipv6Addr::from(bits);
            let is_global = address.segments()[0] & 0xe000 == 0x2000;
            let public = is_public(address.into());
            prop_assert!(is_global || within(address.into()).is_some() || !public, "{address}");
            prop_assert!(!(address.is_unique_local() || address.is_unicast_link_local()
                || address.is_multicast() || address.is_loopback()) || !public);
        }
    }
}
