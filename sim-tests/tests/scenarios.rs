//! Scenario files: what is refused and how; that a seed draws one plan; that a written plan is a scenario.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sim_tests::scenario::{FaultKind, Scenario, Verb};

#[track_caller]
fn refused(text: &str, says: &str) {
    let error = Scenario::parse(text).and_then(|scenario| scenario.plan("test", 1)).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), says);
}

#[test]
fn unknown_keys_are_refused_with_place_and_suggestion() {
    refused("about = ''\n[wrold]\n", "line 2, column 2: unknown field `wrold`; did you mean `world`?");
    refused(
        "about = ''\n[traffic]\n publsh = 3\n",
        "line 3, column 2: unknown field `publsh`; did you mean `publish`?",
    );
    refused(
        "about = ''\n[faults.crash]\nwhom = 'brain'\n",
        "line 3, column 1: unknown field `whom`; there are target, every, lasts",
    );
}

#[test]
fn wrong_values_say_what_is_expected_and_where() {
    refused(
        "about = ''\n[world]\nrun = 'ten'\n",
        "line 3, column 7: invalid value: string \"ten\", expected a duration such as 250ms, 1.5s or 2m, a range \"low..high\", or a list to draw from",
    );
    refused(
        "about = ''\n[world]\nclients = '9..2'\n",
        "line 3, column 11: invalid value: string \"9..2\", expected a number, a range \"low..high\", or a list to draw from",
    );
    refused("about = ''\n[world]\nshields = 0\n", "[world] shields = 0, but it must be within 1..=8");
    refused(
        "about = ''\n[expect]\nreached = ['brain.take-ovr']\n",
        "line 3, column 11: no mark is called `brain.take-ovr`; did you mean `brain.take-over`?",
    );
    refused("about = ''\n[excuse]\nA1 = ' '\n", "[excuse] A1 needs a reason");
}

#[test]
fn steps_have_one_event_and_one_verb() {
    refused(
        "about = ''\n[[step]]\nwhen = { at = '1s', mark = 'brain.fenced' }\ndo = { crash = 'brain-1' }\n",
        "[[step]] number 1: `when` waits for exactly one of spine_append, mark, at",
    );
    refused(
        "about = ''\n[[step]]\nwhen = { at = '1s' }\ndo = { lasts = '1s' }\n",
        "[[step]] number 1: `do` has exactly one of crash, restart, pause, resume, drain, hold, cut, heal, delay, reset, \
         silence, stall, skew, power_cut, lose_store",
    );
    refused(
        "about = ''\n[[step]]\nwhen = { at = '1s' }\ndo = { crash = 'owner' }\n",
        "[[step]] number 1: `room` says whose \"owner\" or \"standby\" is meant: both or neither",
    );
    refused(
        "about = ''\n[world]\nbrains = 2\nshields = 1\n[[step]]\nwhen = { at = '1s' }\ndo = { crash = 'brain-3' }\n",
        "this world has no host `brain-3`: it has shield-1, brain-1, brain-2, broker",
    );
}

/// One step at 1s in a world of two Brains, a Shield and two clients.
fn step(act: &str) -> String {
    let world = "about = ''\n[world]\nbrains = 2\nshields = 1\nclients = 2\n";
    format!("{world}[[step]]\nwhen = {{ at = '1s' }}\ndo = {{ {act} }}\n")
}

#[test]
fn every_verb_takes_its_targets_and_no_others() {
    for act in [
        "crash = 'broker', lasts = '1s'",
        "restart = 'brain-2'",
        "pause = 'owner', room = 1",
        "resume = 'client-2'",
        "drain = 'shield-1'",
        "hold = 'owner | broker', room = 1",
        "cut = 'client | shield-1'",
        "heal = 'client-1 | shield-1'",
        "delay = 'brain | broker', by = '80ms'",
        "reset = 'client-1 | shield'",
        "silence = 'any client | shield'",
        "stall = 'any client'",
        "skew = 'standby', room = 1, by = '-2s'",
        "power_cut = 'broker'",
        "lose_store = 'broker'",
    ] {
        let scenario = Scenario::parse(&step(act)).unwrap_or_else(|error| panic!("{act}: {error}"));
        let plan = scenario.plan("test", 1).unwrap_or_else(|error| panic!("{act}: {error}"));
        assert!(!plan.to_toml().contains("any client"), "a plan leaves nothing to chance");
    }
    let by = "[[step]] number 1: `by` says how much to delay or skew: it belongs to these two, and they need it";
    refused(&step("crash = 'broker', by = '1s'"), by);
    refused(&step("skew = 'brain-1'"), by);
    refused(&step("delay = 'brain | broker', by = '-1s'"), "a step delays by less than nothing");
    refused(&step("drain = 'broker'"), "this world has no host `broker`: it has shield-1, brain-1, brain-2");
    refused(&step("power_cut = 'brain-1'"), "this world has no host `brain-1`: it has broker");
    refused(&step("stall = 'shield-1'"), "this world has no host `shield-1`: it has client-1, client-2");
    refused(
        &step("hold = 'client-1 | shield'"),
        "client-1 shares its host with others: silence, stall or reset it, or take \"client\"",
    );
    refused(
        "about = ''\n[[step]]\nwhen = { at = '1s' }\ndo = { paus = 'broker' }\n",
        "line 4, column 8: unknown field `paus`; did you mean `pause`?",
    );
    refused(
        "about = ''\n[faults.skew]\nby = '3 parsecs'\n",
        "line 3, column 6: invalid value: string \"3 parsecs\", expected a duration such as 250ms or -3s, a range \
         \"low..high\", or a list to draw from",
    );
}

#[test]
fn a_fault_left_out_shifts_no_other() {
    let with = "about = ''\n[world]\nrun = '40s'\n[traffic]\n[faults.pause]\n[faults.hold]\n[faults.power_cut]\n";
    let without = with.replace("[faults.pause]\n", "");
    let plan = |text: &str| Scenario::parse(text).unwrap().plan("test", 11).unwrap();
    let (mut all, less) = (plan(with), plan(&without));
    assert!(all.fault.iter().any(|fault| fault.kind == FaultKind::Pause));
    all.fault.retain(|fault| fault.kind != FaultKind::Pause);
    assert_eq!(all, less);
}

const OPEN: &str = "about = 'everything is swarmed'\n";

#[test]
fn a_seed_draws_one_plan_and_seeds_differ() {
    let scenario = Scenario::parse(OPEN).unwrap();
    let plan = scenario.plan("open", 3).unwrap();
    assert_eq!(plan, scenario.plan("open", 3).unwrap());
    assert_ne!(plan.op, scenario.plan("open", 4).unwrap().op);
    for seed in 0..200 {
        let plan = scenario.plan("open", seed).unwrap();
        assert!(plan.op.iter().all(|op| op.at.0 < plan.world.run.0));
        assert!(plan.fault.iter().all(|fault| fault.at.0.0 + fault.lasts.0.0 < plan.world.run.0.0));
    }
}

#[test]
fn swarming_turns_kinds_of_faults_on_and_off() {
    let scenario = Scenario::parse(OPEN).unwrap();
    let plans: Vec<_> = (0..60).map(|seed| scenario.plan("open", seed).unwrap()).collect();
    for kind in [
        FaultKind::Hold,
        FaultKind::Partition,
        FaultKind::OneWay,
        FaultKind::Reset,
        FaultKind::Delay,
        FaultKind::Silence,
        FaultKind::Crash,
        FaultKind::Pause,
        FaultKind::Drain,
        FaultKind::Stall,
        FaultKind::Trickle,
        FaultKind::SlowConsumer,
        FaultKind::Skew,
        FaultKind::Drift,
        FaultKind::PowerCut,
        FaultKind::LoseStore,
        FaultKind::LoseAck,
        FaultKind::LoseRepublish,
        FaultKind::Undecided,
        FaultKind::NoResponders,
    ] {
        let with = plans.iter().filter(|plan| plan.fault.iter().any(|fault| fault.kind == kind)).count();
        assert!((1..60).contains(&with), "{kind:?} in {with} of 60 plans");
    }
    let without_sets = plans.iter().filter(|plan| plan.op.iter().all(|op| op.r#do != Verb::Set)).count();
    assert!((1..60).contains(&without_sets), "{without_sets}");
    let commands = |op: &sim_tests::scenario::Op| matches!(op.r#do, Verb::Publish | Verb::Set);
    assert!(plans.iter().all(|plan| plan.op.iter().any(commands)), "a run without a command shows nothing");
}

#[test]
fn an_empty_faults_table_means_none() {
    let scenario = Scenario::parse("about = 'calm'\n[faults]\n").unwrap();
    assert!((0..50).all(|seed| scenario.plan("calm", seed).unwrap().fault.is_empty()));
}

#[test]
fn a_plan_written_as_toml_is_a_scenario_that_draws_itself() {
    let text = "about = 'x'\n[config.brain]\nheartbeat_ms = 500\n[[step]]\nwhen = { spine_append = { room = 1, nth = 5 } }\n\
                do = { crash = 'owner', room = 1, lasts = '2s' }\n[expect]\nreached = ['brain.take-over']\n";
    for seed in 0..20 {
        let plan = Scenario::parse(text).unwrap().plan("x", seed).unwrap();
        let written = plan.to_toml();
        let again = Scenario::parse(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
        // Another seed on the command line changes nothing: a plan has its own.
        assert_eq!(again.plan("x", 999).unwrap(), plan);
    }
}

#[test]
fn every_scenario_file_of_the_repository_draws() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios");
    let mut found = 0;
    let list = |folder: &str| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for path in list(folder).chain(list(&format!("{folder}/found"))) {
        if path.extension().is_some_and(|extension| extension == "toml") {
            let scenario = Scenario::load(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (0..20).for_each(|seed| drop(scenario.plan("file", seed).unwrap()));
            found += 1;
        }
    }
    assert!(found > 0, "no scenario in {folder}");
}
