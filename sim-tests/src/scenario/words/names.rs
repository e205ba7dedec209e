//! Names that the product and the oracles give: marks and promises. A name that nobody knows is an error.

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

/// The name of a mark that product code can leave.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MarkName(pub String);

impl<'de> Deserialize<'de> for MarkName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if voltron_core::marks::known(&name) {
            return Ok(Self(name));
        }
        let known = voltron_core::marks::ALL.iter().map(|(known, _)| *known);
        Err(de::Error::custom(format!("no mark is called `{name}`{}", crate::scenario::did_you_mean(&name, known))))
    }
}

impl Serialize for MarkName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The name of an oracle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OracleName(pub String);

impl<'de> Deserialize<'de> for OracleName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if crate::oracles::NAMES.contains(&name.as_str()) {
            return Ok(Self(name));
        }
        let text = format!("no oracle is called `{name}`: there are {}", crate::oracles::NAMES.join(", "));
        Err(de::Error::custom(text))
    }
}

impl Serialize for OracleName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
