//! Every special range of addresses, and what it takes to open it.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is behind an address, as far as its range says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The internet: may be dialled.
    Public,
    /// A network that is not public, or no network at all. An operator opens it by a network that holds
    /// it, or by the name of a host that is there.
    Private,
    /// The machine that dials. Opened by a network only: a name's owner would choose what is behind it.
    Machine,
    /// What a cloud tells its machines, credentials among it, and what is on the same link. Opened by
    /// nothing but its own address, as `/32` or `/128`: no wider network opens it on the way.
    Metadata,
}

impl Reach {
    /// What opens it, as the documentation says it.
    #[must_use]
    pub fn opened_by(self) -> &'static str {
        match self {
            Self::Public => "is open",
            Self::Private => "`allow_networks`, `allow_hosts`",
            Self::Machine => "`allow_networks`",
            Self::Metadata => "its own address (`/32`, `/128`) in `allow_networks`",
        }
    }
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The addresses.
    pub network: IpNet,
    /// What is behind them.
    pub reach: Reach,
    /// What the range is, and who says so.
    pub what: &'static str,
}

const fn v4(address: [u8; 4], prefix: u8, reach: Reach, what: &'static str) -> Range {
    let [a, b, c, d] = address;
    let network = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix));
    Range { network, reach, what }
}

const fn v6(address: [u16; 8], prefix: u8, reach: Reach, what: &'static str) -> Range {
    let [a, b, c, d, e, f, g, h] = address;
    let network = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix));
    Range { network, reach, what }
}

use Reach::{Machine, Metadata, Private, Public};

/// All ranges: IANA's two special-purpose registries, what is reserved or not given out, and the addresses
/// at which clouds speak to their machines. Of several that hold an address, the smallest counts.
pub const RANGES: [Range; 53] = [
    v4([0, 0, 0, 0], 0, Public, "all that is not below"),
    v4(
        [0, 0, 0, 0],
        8,
        Machine,
        "\"this network\", which Linux dials as itself: RFC 791, RFC 1122",
    ),
    v4([10, 0, 0, 0], 8, Private, "private: RFC 1918"),
    v4([100, 64, 0, 0], 10, Private, "shared by carriers: RFC 6598"),
    v4([100, 100, 100, 200], 32, Metadata, "metadata of Alibaba Cloud"),
    v4([127, 0, 0, 0], 8, Machine, "loopback: RFC 1122"),
    v4(
        [168, 63, 129, 16],
        32,
        Metadata,
        "Azure's wire server, public by its looks",
    ),
    v4(
        [169, 254, 0, 0],
        16,
        Metadata,
        "link-local: RFC 3927; metadata and credentials of AWS, Azure, GCP, Oracle, Tencent, Scaleway and others",
    ),
    v4([172, 16, 0, 0], 12, Private, "private: RFC 1918"),
    v4([192, 0, 0, 0], 24, Private, "protocol assignments: RFC 6890"),
    v4(
        [192, 0, 0, 192],
        32,
        Metadata,
        "metadata of Oracle Cloud (Classic)",
    ),
    v4([192, 0, 2, 0], 24, Private, "documentation: RFC 5737"),
    v4(
        [192, 31, 196, 0],
        24,
        Private,
        "AS112, answered by whoever is near: RFC 7535",
    ),
    v4(
        [192, 52, 193, 0],
        24,
        Private,
        "multicast tunnels (AMT): RFC 7450",
    ),
    v4([192, 88, 99, 0], 24, Private, "6to4 relays: RFC 7526"),
    v4([192, 168, 0, 0], 16, Private, "private: RFC 1918"),
    v4(
        [192, 175, 48, 0],
        24,
        Private,
        "AS112, answered by whoever is near: RFC 7534",
    ),
    v4([198, 18, 0, 0], 15, Private, "benchmarks: RFC 2544"),
    v4([198, 51, 100, 0], 24, Private, "documentation: RFC 5737"),
    v4([203, 0, 113, 0], 24, Private, "documentation: RFC 5737"),
    v4([224, 0, 0, 0], 4, Private, "multicast: RFC 5771"),
    v4([240, 0, 0, 0], 4, Private, "reserved: RFC 1112"),
    v4([255, 255, 255, 255], 32, Private, "broadcast: RFC 919"),
    v6(
        [0, 0, 0, 0, 0, 0, 0, 0],
        0,
        Private,
        "all that is not below: not given out for the internet, RFC 4291",
    ),
    v6(
        [0, 0, 0, 0, 0, 0, 0, 0],
        96,
        Private,
        "IPv4-compatible: RFC 4291; carries an IPv4 address",
    ),
    v6(
        [0, 0, 0, 0, 0, 0, 0, 0],
        128,
        Machine,
        "unspecified, which Linux dials as itself: RFC 4291",
    ),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, Machine, "loopback: RFC 4291"),
    v6(
        [0, 0, 0, 0, 0, 0xffff, 0, 0],
        96,
        Private,
        "IPv4-mapped: RFC 4291; judged as the IPv4 address",
    ),
    v6(
        [0, 0, 0, 0, 0xffff, 0, 0, 0],
        96,
        Private,
        "IPv4-translated (SIIT): RFC 2765; carries an IPv4 address",
    ),
    v6(
        [0x64, 0xff9b, 0, 0, 0, 0, 0, 0],
        96,
        Private,
        "NAT64: RFC 6052; carries an IPv4 address",
    ),
    v6(
        [0x64, 0xff9b, 1, 0, 0, 0, 0, 0],
        48,
        Private,
        "local NAT64: RFC 8215; carries an IPv4 address",
    ),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, Private, "discard: RFC 6666"),
    v6(
        [0x100, 0, 0, 1, 0, 0, 0, 0],
        64,
        Private,
        "dummy prefix: RFC 9780",
    ),
    v6(
        [0x2000, 0, 0, 0, 0, 0, 0, 0],
        3,
        Public,
        "global unicast: RFC 4291",
    ),
    v6(
        [0x2001, 0, 0, 0, 0, 0, 0, 0],
        23,
        Private,
        "protocol assignments: RFC 2928",
    ),
    v6(
        [0x2001, 0, 0, 0, 0, 0, 0, 0],
        32,
        Private,
        "Teredo: RFC 4380; carries two IPv4 addresses",
    ),
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, Private, "benchmarks: RFC 5180"),
    v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, Private, "ORCHID: RFC 4843"),
    v6(
        [0x2001, 0x20, 0, 0, 0, 0, 0, 0],
        28,
        Private,
        "ORCHIDv2: RFC 7343",
    ),
    v6(
        [0x2001, 0x30, 0, 0, 0, 0, 0, 0],
        28,
        Private,
        "drones (DETs): RFC 9374",
    ),
    v6(
        [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0],
        32,
        Private,
        "documentation: RFC 3849",
    ),
    v6(
        [0x2002, 0, 0, 0, 0, 0, 0, 0],
        16,
        Private,
        "6to4: RFC 3056; carries an IPv4 address",
    ),
    v6(
        [0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0],
        48,
        Private,
        "AS112, answered by whoever is near: RFC 7534",
    ),
    v6(
        [0x3fff, 0, 0, 0, 0, 0, 0, 0],
        20,
        Private,
        "documentation: RFC 9637",
    ),
    v6(
        [0x5f00, 0, 0, 0, 0, 0, 0, 0],
        16,
        Private,
        "segment routing: RFC 9602",
    ),
    v6(
        [0xfc00, 0, 0, 0, 0, 0, 0, 0],
        7,
        Private,
        "unique local: RFC 4193",
    ),
    v6(
        [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42],
        128,
        Metadata,
        "metadata of Scaleway",
    ),
    v6(
        [0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe],
        128,
        Metadata,
        "metadata of Oracle Cloud",
    ),
    v6(
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0],
        32,
        Metadata,
        "metadata, name service and pod credentials of AWS",
    ),
    v6(
        [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254],
        128,
        Metadata,
        "metadata of GCP",
    ),
    v6(
        [0xfe80, 0, 0, 0, 0, 0, 0, 0],
        10,
        Metadata,
        "link-local: RFC 4291; metadata of OpenStack and others",
    ),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Private, "site-local: RFC 3879"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Private, "multicast: RFC 4291"),
];

/// The range of an address: the smallest that holds it. An IPv4 address mapped into IPv6 is in its
/// IPv4 range.
#[must_use]
pub fn range_of(address: IpAddr) -> &'static Range {
    let address = address.to_canonical();
    RANGES
        .iter()
        .filter(|range| range.network.contains(&address))
        .max_by_key(|range| range.network.prefix_len())
        // Both families have a row that holds all.
        .unwrap_or(&RANGES[0])
}

/// The IPv4 addresses that an IPv6 address carries, by the form it has: a gateway would dial them. That of
/// local NAT64 lies in one of four places (RFC 6052, 2.2), and which is not known here: all are read, but
/// those that begin with a zero, which are another's rest.
pub(super) fn carried(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bits = address.to_bits();
    let at = |from_the_right: u32| Ipv4Addr::from_bits((bits >> from_the_right) as u32);
    // RFC 6052 leaves bits 64 to 71 of the address zero, in the middle of what it carries.
    let around = |before: u32| {
        let kept = 64 - before;
        let high = (bits >> 64) & ((1 << kept) - 1);
        let low = (bits << 72) >> (96 + kept);
        Ipv4Addr::from_bits(((high << (32 - kept)) | low) as u32)
    };
    let some = |address: Ipv4Addr| (address.octets()[0] != 0).then_some(address);
    let all = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None; 5],
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            [Some(at(0)), None, None, None, None]
        }
        [0x64, 0xff9b, 1, ..] => [
            Some(at(0)),
            some(around(48)),
            some(around(56)),
            some(at(24)),
            None,
        ],
        [0x2001, 0, ..] => [
            Some(at(64)),
            Some(Ipv4Addr::from_bits(!(bits as u32))),
            None,
            None,
            None,
        ],
        [0x2002, ..] => [Some(at(80)), None, None, None, None],
        _ => [None; 5],
    };
    all.into_iter().flatten()
}
