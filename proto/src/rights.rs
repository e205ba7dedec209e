//! What a user may do in one room: the bits of `Sender.rights`, resolved by the Shield from the token's grants.

/// A set of rights for one room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(pub u32);

impl Rights {
    /// Subscribe.
    pub const SUB: Self = Self(1);
    /// `say`.
    pub const PUB: Self = Self(2);
    /// `set`, `delete` and the playlist.
    pub const STATE: Self = Self(4);
    /// Appear in presence.
    pub const PRESENCE: Self = Self(8);
    /// Lock, kick, ban, mute.
    pub const MOD: Self = Self(16);
    /// Bring an absent room into being.
    pub const CREATE: Self = Self(32);
    /// Configure and close.
    pub const OWNER: Self = Self(64);
    /// Names as tokens carry them, with their bits.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("sub", Self::SUB),
        ("pub", Self::PUB),
        ("state", Self::STATE),
        ("presence", Self::PRESENCE),
        ("mod", Self::MOD),
        ("create", Self::CREATE),
        ("owner", Self::OWNER),
    ];

    /// True if every right of `other` is in this set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The right with this name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, right)| *right)
    }
}
