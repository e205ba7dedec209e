//! What is printed of each planted bug, and what all of it amounts to.

use voltron_core::mutants::{Finder, Planted};

use super::Found;

/// One bug.
pub(super) struct Row {
    planted: Planted,
    /// Per range: how many seeds until it was found.
    pub(super) after: Vec<Option<u64>>,
    /// Its own scenario, where the finder needed too many.
    pub(super) own: Option<(&'static str, Option<u64>)>,
    /// The oracle that objected first, of the last find.
    pub(super) found_by: Option<String>,
    /// Oracles that objected and should not have been the first.
    wrong: Vec<String>,
    /// How to see one find again.
    replay: Option<String>,
    pub(super) false_alarms: u64,
    pub(super) alarms: Vec<String>,
    /// With the bug and without faults nothing objects.
    pub(super) calm: Option<bool>,
    /// The branch that the bug sits behind was reached.
    pub(super) reached: bool,
    pub(super) runs: u64,
}

impl Row {
    pub(super) fn new(planted: &Planted) -> Self {
        Self {
            planted: *planted,
            after: Vec::new(),
            own: None,
            found_by: None,
            wrong: Vec::new(),
            replay: None,
            false_alarms: 0,
            alarms: Vec::new(),
            calm: None,
            reached: planted.mark.is_none(),
            runs: 0,
        }
    }

    /// Notes who objected.
    pub(super) fn note(&mut self, planted: &Planted, found: Option<&Found>) {
        let Some(Found { verdict, .. }) = found else { return };
        let oracle = verdict.oracle.clone().unwrap_or_default();
        let again = verdict.replay.clone();
        if !planted.oracles.contains(&oracle.as_str()) {
            self.wrong.push(format!("{oracle}: {again}"));
        }
        self.found_by = Some(oracle);
        self.replay.get_or_insert(again);
    }

    /// Found in every range, or by its own scenario.
    fn found(&self) -> bool {
        self.after.iter().all(Option::is_some) || self.own.is_some_and(|(_, after)| after.is_some())
    }

    fn good(&self) -> bool {
        self.found() && self.wrong.is_empty() && self.false_alarms == 0
    }

    /// Ascending; not found stands above all.
    fn sorted(&self) -> Vec<Option<u64>> {
        let mut after = self.after.clone();
        after.sort_by_key(|after| after.unwrap_or(u64::MAX));
        after
    }

    fn median(&self) -> Option<u64> {
        self.sorted().get(self.after.len() / 2).copied().flatten()
    }

    fn worst(&self) -> Option<u64> {
        self.sorted().last().copied().flatten()
    }

    fn finder(&self) -> String {
        match self.planted.finder {
            Finder::Swarm => "swarm".into(),
            Finder::Scenario(name) => name.into(),
            Finder::Meta => "meta".into(),
            Finder::Madsim(name) => format!("madsim {name}"),
            Finder::Test { target, .. } => format!("test {target}"),
        }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "mutant": self.planted.name, "part": self.planted.part, "finder": self.finder(), "found": self.found(),
            "median": self.median(), "worst": self.worst(), "after": self.after, "oracle": self.found_by,
            "wrong": self.wrong, "false_alarms": self.false_alarms, "alarms": self.alarms, "calm": self.calm,
            "own": self.own.map(|(name, after)| serde_json::json!({"scenario": name, "after": after})),
            "mark": self.planted.mark.map(|mark| serde_json::json!({"name": mark, "reached": self.reached})),
            "ok": self.good(), "replay": self.replay,
        })
    }

    pub(super) fn text(&self) -> String {
        let count = |after: Option<u64>| after.map_or_else(|| "-".to_owned(), |after| after.to_string());
        let calm = match self.calm {
            Some(true) => "silent",
            Some(false) => "found",
            None => "-",
        };
        let mut text = format!(
            "{} {:<28} {:<12} {:<14} {:>6} {:>6}  {:<6} {:>6}  {calm}",
            if self.good() { "ok    " } else { "FAILED" },
            self.planted.name,
            self.planted.part,
            self.finder(),
            count(self.median()),
            count(self.worst()),
            self.found_by.as_deref().unwrap_or("-"),
            self.false_alarms,
        );
        if self.after.contains(&None) {
            let mark = match self.planted.mark {
                Some(mark) if !self.reached => format!("; its mark {mark} was never reached"),
                Some(mark) => format!("; its mark {mark} was reached"),
                None => String::new(),
            };
            text.push_str(&format!("\n       not found in every range of seeds{mark}"));
        }
        if let Some((own, after)) = self.own {
            text.push_str(&format!("\n       its own scenario {own} needs {}", count(after)));
        }
        for wrong in &self.wrong {
            text.push_str(&format!(
                "\n       the wrong oracle, {} expected: {wrong}",
                self.planted.oracles.join(" or ")
            ));
        }
        for alarm in &self.alarms {
            text.push_str(&format!("\n       a false alarm: {alarm}"));
        }
        text
    }
}

pub(super) fn head() -> String {
    format!(
        "       {:<28} {:<12} {:<14} {:>6} {:>6}  {:<6} {:>6}  without faults",
        "planted bug", "in", "finder", "median", "worst", "oracle", "alarms"
    )
}

/// All of them.
pub(super) struct Summary {
    bugs: usize,
    failed: Vec<&'static str>,
    /// Over the medians of those that runs find.
    median: Option<u64>,
    calm: usize,
    loud: usize,
    control: u64,
    alarms: u64,
}

impl Summary {
    pub(super) fn of(rows: &[Row], control: u64) -> Self {
        let runs = |row: &&Row| matches!(row.planted.finder, Finder::Swarm | Finder::Scenario(_) | Finder::Madsim(_));
        let mut medians: Vec<u64> = rows.iter().filter(runs).filter_map(Row::median).collect();
        medians.sort_unstable();
        let calm = |silent: bool| rows.iter().filter(|row| row.calm == Some(silent)).count();
        Self {
            bugs: rows.len(),
            failed: rows.iter().filter(|row| !row.good()).map(|row| row.planted.name).collect(),
            median: medians.get(medians.len() / 2).copied(),
            calm: calm(true),
            loud: calm(false),
            control,
            alarms: rows.iter().map(|row| row.false_alarms).sum(),
        }
    }

    /// Each found as it must be, no alarm without a bug, and at least half of them silent without faults.
    pub(super) fn good(&self) -> bool {
        self.failed.is_empty() && self.alarms == 0 && self.calm >= self.loud
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "summary": true, "mutants": self.bugs, "failed": self.failed, "median": self.median,
            "control_seeds": self.control, "false_alarms": self.alarms,
            "silent_without_faults": self.calm, "found_without_faults": self.loud, "ok": self.good(),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("{} planted bugs, {} not found as they must be", self.bugs, self.failed.len());
        if let Some(median) = self.median {
            text.push_str(&format!("; median of the medians {median} seeds"));
        }
        if self.control > 0 {
            text.push_str(&format!("; {} control runs, {} alarms", self.control, self.alarms));
        }
        if self.calm + self.loud > 0 {
            text.push_str(&format!("; without faults {} of {} stay silent", self.calm, self.calm + self.loud));
        }
        if self.calm < self.loud {
            text.push_str(" (too few: they are no test of faults)");
        }
        if !self.failed.is_empty() {
            text.push_str(&format!("\nFAILED: {}", self.failed.join(", ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use sim_tests::verdict::Verdict;
    use voltron_core::mutants::Mutant;

    use super::*;

    fn planted() -> &'static Planted {
        Mutant::named("gap-ignored").expect("it is planted")
    }

    fn row(after: &[Option<u64>]) -> Row {
        Row { after: after.to_vec(), ..Row::new(planted()) }
    }

    #[test]
    fn what_is_not_found_stands_above_all() {
        let row = row(&[Some(30), None, Some(4)]);
        assert_eq!((row.median(), row.worst(), row.good()), (Some(30), None, false));
        assert!(row.text().contains("its mark shield.gap was never reached"), "{}", row.text());
        let own = Row { own: Some(("split", Some(2))), ..row };
        assert!(own.good(), "its own scenario found it");
    }

    #[test]
    fn a_wrong_oracle_and_a_false_alarm_fail() {
        let found = |oracle: &str| Found {
            after: 1,
            verdict: Verdict { oracle: Some(oracle.into()), replay: "cargo sim replay".into(), ..Verdict::default() },
        };
        let mut right = row(&[Some(1)]);
        right.note(planted(), Some(&found("A5")));
        assert!(right.good() && right.json()["replay"] == "cargo sim replay");
        let mut wrong = row(&[Some(1)]);
        wrong.note(planted(), Some(&found("A1")));
        assert!(!wrong.good() && wrong.text().contains("the wrong oracle, A5 expected: A1"), "{}", wrong.text());
        let alarmed = Row { false_alarms: 1, ..row(&[Some(1)]) };
        assert!(!alarmed.good());
        assert!(!Summary::of(&[right, alarmed], 5).good());
    }

    #[test]
    fn half_of_them_must_need_faults() {
        let calm = |calm: bool| Row { calm: Some(calm), ..row(&[Some(1)]) };
        assert!(Summary::of(&[calm(true), calm(false)], 0).good());
        assert!(!Summary::of(&[calm(true), calm(false), calm(false)], 0).good());
    }
}
