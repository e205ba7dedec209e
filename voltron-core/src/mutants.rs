//! Planted bugs: the simulator's own test. `mutant!(Name)` is an inlined `false` without the cargo feature `mutants`,
//! and that feature without debug assertions does not compile, so no release can hold one.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` plants bugs: it may not be built without debug assertions");

/// Every planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Events are sent before the commit that stores them was acknowledged.
    AckBeforeAppend,
    /// A refused fence is taken for success.
    FenceConflictIsSuccess,
    /// The absence of an unresolved commit is taken for failure.
    AbsenceIsFailure,
    /// A repeat within the window is applied again.
    DuplicateApplied,
    /// The Shield delivers past a gap.
    GapIgnored,
}

impl Mutant {
    /// Every planted bug with its name on the command line.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("ack-before-append", Self::AckBeforeAppend),
        ("fence-conflict-is-success", Self::FenceConflictIsSuccess),
        ("absence-is-failure", Self::AbsenceIsFailure),
        ("duplicate-applied", Self::DuplicateApplied),
        ("gap-ignored", Self::GapIgnored),
    ];
}

#[cfg(feature = "mutants")]
mod active {
    use super::Mutant;
    use std::sync::OnceLock;

    static ACTIVE: OnceLock<Mutant> = OnceLock::new();

    /// Turns one bug on for the rest of this process: the first one asked for. False if this build holds no planted
    /// bugs, or another one is on.
    pub fn turn_on(mutant: Mutant) -> bool {
        *ACTIVE.get_or_init(|| mutant) == mutant
    }

    /// True if this bug is on.
    pub fn on(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(&mutant)
    }
}
#[cfg(feature = "mutants")]
pub use active::{on, turn_on};

/// False: this build holds no planted bugs.
#[cfg(not(feature = "mutants"))]
pub const fn turn_on(_mutant: Mutant) -> bool {
    false
}

/// Always false: this build holds no planted bugs.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn on(_mutant: Mutant) -> bool {
    false
}

/// True if the named bug is planted and on.
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::on($crate::mutants::Mutant::$name)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_one_name_that_says_what_it_is() {
        for (i, (name, mutant)) in Mutant::ALL.iter().enumerate() {
            let words = name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]);
            assert_eq!(words.collect::<String>(), format!("{mutant:?}"));
            assert!(Mutant::ALL.iter().skip(i + 1).all(|(_, other)| other != mutant), "{name} stands twice");
        }
    }

    /// No bug is on before one is turned on; afterwards only that one is. One test, as the choice is the process's.
    #[test]
    fn only_the_chosen_bug_is_on() {
        assert!(Mutant::ALL.iter().all(|(_, mutant)| !on(*mutant)));
        assert!(!crate::mutant!(GapIgnored));
        #[cfg(feature = "mutants")]
        {
            turn_on(Mutant::GapIgnored);
            assert!(crate::mutant!(GapIgnored));
            assert!(!crate::mutant!(AckBeforeAppend));
        }
    }
}
