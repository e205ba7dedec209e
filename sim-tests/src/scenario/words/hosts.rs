//! Words that name hosts, clients and links.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{One, Word};
use crate::seed::Draw;

/// Words that name hosts: a group (`brain`), one of it (`brain-2`), or a role (`owner`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(pub String);

/// One client, drawn once for the plan.
pub const ANY_CLIENT: &str = "any client";

impl Target {
    /// True for `owner` and `standby`: only the run knows who that is.
    pub fn is_role(&self) -> bool {
        matches!(self.0.as_str(), "owner" | "standby")
    }
}

impl Word for Target {
    const EXPECTED: &'static str = "\"broker\" (or \"spine\"), \"shield\", \"brain\", \"client\", one of them such as \
                                    \"shield-1\", \"any client\", or a room's \"owner\" or \"standby\"";

    fn parse(text: &str) -> Option<Self> {
        let (group, number) = text.rsplit_once('-').map_or((text, None), |(group, number)| (group, Some(number)));
        let known = match number {
            None => {
                matches!(group, "broker" | "spine" | "shield" | "brain" | "client" | "owner" | "standby" | ANY_CLIENT)
            }
            Some(number) => {
                matches!(group, "shield" | "brain" | "client" | "clients")
                    && number.parse::<u32>().is_ok_and(|number| number > 0)
            }
        };
        known.then(|| Self(if text == "spine" { "broker".into() } else { text.into() }))
    }

    fn between(_low: &Self, _high: &Self, _draw: &mut Draw) -> Option<Self> {
        None
    }

    fn ordered(_low: &Self, _high: &Self) -> bool {
        false
    }
}

/// Two sides of a link: `"brain | spine"`, or several hosts on a side: `"brain-1, brain-2 | broker"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkWords {
    /// Left of the bar.
    pub left: Vec<Target>,
    /// Right of it.
    pub right: Vec<Target>,
}

impl fmt::Display for LinkWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: &[Target]| side.iter().map(|target| target.0.as_str()).collect::<Vec<_>>().join(", ");
        write!(f, "{} | {}", side(&self.left), side(&self.right))
    }
}

impl Word for LinkWords {
    const EXPECTED: &'static str = "a link such as \"brain | spine\" or \"shield-1 | broker\"";

    fn parse(text: &str) -> Option<Self> {
        let (left, right) = text.split_once('|')?;
        let side = |side: &str| side.split(',').map(|word| Target::parse(word.trim())).collect::<Option<Vec<_>>>();
        Some(Self { left: side(left)?, right: side(right)? })
    }

    fn between(_low: &Self, _high: &Self, _draw: &mut Draw) -> Option<Self> {
        None
    }

    fn ordered(_low: &Self, _high: &Self) -> bool {
        false
    }
}

impl Serialize for One<Target> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.0)
    }
}

impl Serialize for One<LinkWords> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
