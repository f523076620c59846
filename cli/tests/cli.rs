//! The command line: what is printed where, and with which exit status.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

const HOLDS: i32 = 0;
const VIOLATED: i32 = 1;
const WRONG_USE: i32 = 2;
const UNKNOWN: i32 = 3;

/// The exit status, standard output and standard error of `pbft` with these arguments, parted by spaces.
fn pbft(arguments: &str) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pbft")).args(arguments.split_whitespace()).output();
    let Output { status, stdout, stderr } = output.unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Asserts that the arguments are refused in one sentence that has these words in it.
fn assert_refused(arguments: &str, words: &str) {
    let (status, stdout, stderr) = pbft(arguments);
    assert_eq!((status, stdout.as_str()), (WRONG_USE, ""), "{arguments}");
    assert_eq!(stderr.lines().count(), 1, "{arguments}: {stderr}");
    assert!(stderr.starts_with("pbft: ") && stderr.ends_with('\n'), "{arguments}: {stderr}");
    assert!(stderr.contains(words), "{arguments}: {stderr}");
}

// --- check ---

#[test]
fn a_single_world_is_a_line_of_a_table_and_its_details() {
    let (status, stdout, stderr) = pbft("check --n 4");
    assert_eq!((status, stderr.as_str()), (HOLDS, ""), "{stdout}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[0].starts_with("verdict ") && lines[2].is_empty(), "{stdout}");
    assert!(lines[1].starts_with("HOLDS (exhausted) ") && lines[1].contains(" 106797 "), "{stdout}");
    assert!(lines[1].contains(" n4f1-byznone-v0k1r1b1 ") && lines[1].len() <= 160, "{stdout}");
    assert!(
        lines[3].starts_with("n=4 f=1, no Byzantine replica, view 0, ") && lines[3].contains(", rules pbft.")
    );
    assert!(stdout.contains("\nSeen: ") && stdout.contains("something commits"), "{stdout}");
}

#[test]
fn check_runs_by_the_rules_it_is_given_and_names_them() {
    let (status, stdout, _) = pbft("check --rules commit-quorum");
    assert_eq!(status, HOLDS, "no replica is Byzantine in this world");
    assert!(stdout.contains("rules pbft without commit-quorum.") && !stdout.contains(" 106797 "), "{stdout}");
}

#[test]
fn a_violation_comes_with_the_steps_to_it() {
    let (status, stdout, _) = pbft("check --n 2 --f 0 --requests 2 --rules in-order");
    assert_eq!(status, VIOLATED);
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[1].starts_with("VIOLATED (5 steps) ") && lines[1].ends_with(" validity"), "{stdout}");
    let what = lines.len() - 6;
    assert!(lines[what].starts_with("validity: ") && lines[what].ends_with(", after 5 steps:"), "{stdout}");
    for (number, step) in lines[what + 1..].iter().enumerate() {
        assert!(step.starts_with(&format!("{:>4}  ", number + 1)), "{stdout}");
    }
    assert_eq!(pbft("check --n 2 --f 0 --requests 2").0, HOLDS);
}

#[test]
fn lazy_delivery_holds_only_with_its_conditions_checked() {
    let world = "check --byzantine 0 --requests 2 --max-seq 1 --explore lazy";
    let (status, stdout, _) = pbft(world);
    assert_eq!(status, HOLDS, "{stdout}");
    assert!(stdout.contains("Conditions of the reduction: ") && stdout.contains(" 0 of "), "{stdout}");
    let (status, stdout, _) = pbft(&format!("{world} --no-conditions"));
    assert_eq!(status, UNKNOWN);
    assert!(stdout.contains("not checked") && !stdout.contains("HOLDS"), "{stdout}");
}

#[test]
fn a_run_cut_short_claims_nothing() {
    let (status, stdout, _) = pbft("check --byzantine 0 --memory 0.000001");
    assert_eq!(status, UNKNOWN);
    assert!(stdout.contains("UNKNOWN (not exhausted)") && !stdout.contains("HOLDS"), "{stdout}");
    assert!(
        stdout.contains("Nothing is claimed: not exhausted, the limit on memory was reached."),
        "{stdout}"
    );
}

/// The reports that `pbft` prints with these arguments.
fn reports(arguments: &str) -> (i32, Vec<serde_json::Value>) {
    let (status, stdout, _) = pbft(&format!("{arguments} --json"));
    (status, stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn a_report_has_a_field_for_everything_that_a_verdict_rests_on() {
    let (status, reports) =
        reports("check --byzantine 3 --requests 2 --max-seq 1 --explore lazy --threads 1");
    assert_eq!((status, reports.len()), (HOLDS, 1));
    for (field, value) in [
        ("world", "n4f1-byz3-v0k1r2b1".into()),
        ("n", 4.into()),
        ("f", 1.into()),
        ("byzantine", vec![3].into()),
        ("max_view", 0.into()),
        ("max_seq", 1.into()),
        ("requests", 2.into()),
        ("max_batch", 1.into()),
        ("checkpoint_interval", serde_json::Value::Null),
        ("window", 1.into()),
        ("rules", "pbft".into()),
        ("explore", "lazy".into()),
        ("threads", 1.into()),
        ("states", 79.into()),
        ("transitions", 156.into()),
        ("depth", 9.into()),
        ("exhausted", true.into()),
        ("verdict", "holds".into()),
        ("property", serde_json::Value::Null),
        ("trace_length", serde_json::Value::Null),
        ("conditions_failed", 0.into()),
        ("observables", serde_json::Value::Null),
        ("observables_digest", serde_json::Value::Null),
        ("cut_by_bound", 0.into()),
        ("hunt", false.into()),
    ] {
        assert_eq!(reports[0].get(field), Some(&value), "{field}");
    }
    for field in ["local_states", "message_sets", "seconds", "explore_seconds", "cpu_seconds"] {
        assert!(reports[0][field].as_f64().unwrap() > 0.0, "{field}");
    }
    for field in ["states_per_second", "peak_bytes", "conditions_checked"] {
        assert!(reports[0][field].as_f64().unwrap() > 0.0, "{field}");
    }
    assert_eq!(reports[0]["witnesses"]["something commits in view 0"], true);
    assert_eq!(reports[0]["witnesses"]["a null request is carried into a view"], false);
    let needed = reports[0]["witnesses_needed"].as_array().unwrap();
    assert_eq!(needed[0], "something commits in view 0");
    assert!(needed.contains(&"the request of client 1 executes".into()), "{needed:?}");
    // Of the world `pbft check --list` knows what can fail in it.
    let (can_fail, not) = (&reports[0]["can_fail"], &reports[0]["not_shown_to_fail"]);
    let counts = (can_fail.as_object().unwrap().len(), not.as_array().unwrap().len());
    assert!(counts.0 > 0 && counts.1 > 0 && can_fail.get("at-most-once").is_none(), "{can_fail}");
}

#[test]
fn a_report_of_a_violation_has_its_property_and_its_trace() {
    let (status, reports) = reports("check --byzantine 0,1 --requests 2 --max-seq 1 --explore lazy");
    assert_eq!((status, reports.len()), (VIOLATED, 1));
    let report = &reports[0];
    assert_eq!(report["verdict"], "violated");
    assert_eq!(report["property"], "prepared-uniqueness");
    assert_eq!(report["trace_length"], 4);
    assert_eq!(report["trace"].as_array().unwrap().len(), 4);
}

#[test]
fn what_can_be_observed_is_the_same_for_both_explorations() {
    let observed = |how: &str| {
        let (_, reports) = reports(&format!("check --byzantine 3 --observables --explore {how}"));
        let report = &reports[0];
        let digest = report["observables_digest"].as_str().unwrap().to_owned();
        (report["observables"].as_u64().unwrap(), digest)
    };
    let (count, digest) = observed("none");
    assert!(count > 9 && digest.len() == 64, "{count} {digest}");
    assert_eq!(observed("lazy"), (count, digest));
}

#[test]
fn joint_histories_and_behaviours_are_written_line_by_line() {
    let directory = tempfile::tempdir().unwrap();
    let [histories, behaviours] = ["histories", "behaviours"].map(|name| directory.path().join(name));
    let (status, reports) = reports(&format!(
        "check --n 3 --explore none --histories {} --behaviours {}",
        histories.display(),
        behaviours.display()
    ));
    assert_eq!(status, HOLDS);
    for (path, field) in [(&histories, "observables"), (&behaviours, "behaviours")] {
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(reports[0][field], lines.len(), "{text}");
        assert!(lines.is_sorted() && lines.contains(&"r0 | r1 | r2"), "{text}");
    }
    assert_eq!(reports[0]["observables_of"], "the states that the verdict is about");
    assert_refused("check --n 3 --explore lazy --behaviours x", "--explore none");
}

#[test]
fn layered_exploration_says_that_what_it_observes_is_of_another_exploration() {
    let (_, reports) = reports("check --byzantine 3 --observables --explore layered");
    let of = reports[0]["observables_of"].as_str().unwrap();
    assert!(of.contains("without two of its reductions"), "{of}");
    let (_, stdout, _) = pbft("check --byzantine 3 --observables --explore layered");
    assert!(stdout.contains("two of the reductions of layered exploration were off"), "{stdout}");
}

#[test]
fn three_replicas_with_one_byzantine_are_safe_and_need_everybody() {
    let (status, stdout, _) = pbft("check --n 3 --f 1 --byzantine 2");
    assert_eq!(status, HOLDS, "{stdout}");
    assert!(stdout.contains("nothing commits unless every replica takes part"), "{stdout}");
}

#[test]
fn the_worlds_of_the_suites_are_listed() {
    let (status, stdout, stderr) = pbft("check --list");
    assert_eq!((status, stderr.as_str()), (HOLDS, ""));
    for line in stdout.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let of = |suites: &[&str]| words[2..].starts_with(suites);
        let claimed = of(&["default", "and", "full", "can", "fail"]) || of(&["full"]) || of(&["night"]);
        assert!(claimed || of(&["hunted", "in", "full"]), "{line}");
    }
    assert!(stdout.lines().any(|line| line.starts_with("n4f1-byz3-v2k1r2b1 ")), "{stdout}");
}

#[test]
fn a_world_of_the_suites_is_explored_in_every_way_that_they_do() {
    let (status, stdout, stderr) = pbft("check --world n3f1-byz0-v0k1r2b1");
    assert_eq!((status, stderr.as_str()), (HOLDS, ""), "{stdout}");
    assert!(stdout.contains(" none ") && stdout.contains(" lazy "), "{stdout}");
    assert!(stdout.ends_with("\n2 of 2 worlds hold, 0 violated, 0 unknown.\n"), "{stdout}");
}

#[test]
fn a_world_in_which_a_bound_means_nothing_does_not_hold() {
    // A view change is possible in view 1 only; one request, and no Byzantine primary to propose it twice.
    let (status, stdout, _) = pbft("check --n 4 --requests 1 --max-seq 2 --explore lazy");
    assert_eq!(status, UNKNOWN, "{stdout}");
    assert!(
        stdout.contains("vacuous: nothing ever commits at n = 2") && !stdout.contains("HOLDS"),
        "{stdout}"
    );
}

#[test]
fn a_world_that_takes_too_long_is_unknown_and_a_hunt_that_finds_nothing_is_no_verdict() {
    let (status, stdout, _) = pbft("check --byzantine 0 --time 0.000001");
    assert_eq!(status, UNKNOWN);
    assert!(stdout.contains("not exhausted, the limit on time was reached."), "{stdout}");
    let (_, stdout, _) = pbft("check --list");
    let hunted = stdout.lines().find(|line| line.contains(" hunted in full")).unwrap();
    let world = hunted.split_whitespace().next().unwrap();
    let (status, stdout, _) = pbft(&format!("check --world {world} --time 0.1"));
    assert_eq!(status, HOLDS, "{stdout}");
    assert!(stdout.contains("hunted: nothing found "), "{stdout}");
    assert!(stdout.contains(" no verdict: the limit on time was reached"), "{stdout}");
    assert!(stdout.contains("hunted: nothing found, which is no verdict.\n"), "{stdout}");
    assert!(!stdout.contains("HOLDS"), "{stdout}");
}

// --- falsify ---

#[test]
fn what_is_said_to_be_falsifiable_is_violated_without_a_rule() {
    let (status, stdout, stderr) = pbft("falsify --world n3f1-byz0-v0k1r2b1");
    assert_eq!((status, stderr.as_str()), (HOLDS, ""), "{stdout}");
    let violated: Vec<&str> = stdout.lines().filter(|line| line.contains(" steps ")).collect();
    assert!(violated.iter().any(|line| line.contains(" none ")), "{stdout}");
    assert!(violated.iter().any(|line| line.contains(" lazy ")), "{stdout}");
    let (status, reports) = reports("falsify --world n3f1-byz0-v0k1r2b1");
    assert_eq!((status, reports.len()), (HOLDS, violated.len()));
    assert!(reports.iter().all(|report| report["violated"] == true), "{reports:?}");
    let (_, checked) = self::reports("check --world n3f1-byz0-v0k1r2b1");
    let claimed = checked.iter().flat_map(|report| report["can_fail"].as_object().unwrap().values());
    // What fails in a smaller world is verified there.
    let is_inherited = |by: &str| by.contains(", in n");
    assert_eq!(claimed.filter(|by| !is_inherited(by.as_str().unwrap())).count(), reports.len());
}

#[test]
fn the_safeguards_listed_are_those_that_can_be_switched_off() {
    let (status, stdout, stderr) = pbft("check --list-rules");
    assert_eq!((status, stderr.as_str()), (HOLDS, ""));
    assert!(stdout.lines().any(|line| line.starts_with("commit-quorum  ")), "{stdout}");
    for line in stdout.lines() {
        let (name, lost) = line.split_once(' ').unwrap();
        assert!(!lost.trim().is_empty(), "{line}");
        let (status, _, _) = pbft(&format!("check --n 1 --f 0 --rules {name} --list-rules"));
        assert_eq!(status, HOLDS, "{name}");
    }
}

// --- simulate ---

#[test]
fn simulations_without_a_failure_succeed() {
    let (status, stdout, stderr) = pbft("simulate --seed 0 --seeds 5");
    assert_eq!((status, stderr.as_str()), (HOLDS, ""), "{stdout}");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    assert!(stdout.starts_with("0 of 5 seeds failed"), "{stdout}");
}

/// The failures printed: what failed, and the arguments that repeat it.
fn failures(stdout: &str) -> Vec<(String, String)> {
    const REPEAT: &str = "to repeat: cargo run --release -- ";
    let lines: Vec<&str> = stdout.lines().map(str::trim).collect();
    let repeated = |pair: &[&str]| Some((pair[0].to_owned(), pair[1].strip_prefix(REPEAT)?.to_owned()));
    lines.windows(2).filter_map(repeated).collect()
}

/// Asserts that some simulation fails and that the command printed with each failure repeats it.
fn assert_fails_and_repeats(arguments: &str) {
    let (status, stdout, _) = pbft(arguments);
    assert_eq!(status, VIOLATED, "{arguments}: {stdout}");
    let failures = failures(&stdout);
    assert!(!failures.is_empty(), "{stdout}");
    for (failure, again) in failures.iter().take(3) {
        assert!(again.starts_with("simulate --seed "), "{again}");
        let (status, stdout, _) = pbft(again);
        assert_eq!(status, VIOLATED, "{again}: {stdout}");
        assert_eq!(self::failures(&stdout), [(failure.clone(), again.clone())]);
    }
}

#[test]
fn a_failure_is_repeated_by_the_command_printed_with_it() {
    assert_fails_and_repeats("simulate --seed 0 --seeds 5 --rules in-order");
    assert_fails_and_repeats("simulate --seed 0 --seeds 3 --rules persist-votes --crypto ed25519");
}

#[test]
fn a_failure_with_byzantine_replicas_asked_for_is_repeated_with_as_many() {
    assert_fails_and_repeats("simulate --seed 0 --seeds 10 --byzantine-count 3");
}

// --- walks ---

#[test]
fn walks_of_a_small_world_show_nothing_that_lazy_delivery_does_not() {
    let world = "walks --byzantine 3 --requests 2 --max-seq 1 --walks 500 --seed 7";
    let (status, stdout, stderr) = pbft(world);
    assert_eq!((status, stderr.as_str()), (HOLDS, ""), "{stdout}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "n4f1-byz3-v0k1r2b1, rules pbft.");
    assert!(lines[1].starts_with("Lazy delivery: 79 states, "), "{stdout}");
    assert!(lines[2].starts_with("Walks: 500 of 500 from seed 7, "), "{stdout}");
    assert_eq!(lines[4..], ["The walks show nothing that lazy delivery does not."]);
    let (status, reports) = reports(world);
    assert_eq!((status, reports.len()), (HOLDS, 1));
    let (report, walks) = (&reports[0], &reports[0]["walks"]);
    assert_eq!((&report["world"], &report["rules"]), (&"n4f1-byz3-v0k1r2b1".into(), &"pbft".into()));
    assert_eq!((&report["lazy"]["exhausted"], &report["lazy"]["states"]), (&true.into(), &79.into()));
    assert_eq!((&walks["seed"], &walks["walks"], &walks["asked"]), (&7.into(), &500.into(), &500.into()));
    assert_eq!(walks["missing"], serde_json::Value::Null);
    assert!(walks["steps"].as_u64().unwrap() > 500, "{report}");
    let seen = format!("Joint histories: {} of {} were seen on walks.", walks["joints"], report["joints"]);
    assert_eq!(lines[3], seen, "the same seed takes the same walks");
}

#[test]
fn no_walk_is_taken_unless_lazy_delivery_is_exhausted() {
    let (status, stdout, _) = pbft("walks --byzantine 0 --memory 0.000001 --walks 1000000");
    assert_eq!(status, UNKNOWN);
    assert!(
        stdout.contains("Nothing is claimed: lazy delivery is not exhausted, the limit on memory"),
        "{stdout}"
    );
    assert!(stdout.ends_with("; no walk was taken.\n"), "{stdout}");
    let (status, reports) = reports("walks --byzantine 0 --memory 0.000001");
    assert_eq!((status, &reports[0]["walks"]), (UNKNOWN, &serde_json::Value::Null));
    assert_eq!(reports[0]["lazy"]["why"], "the limit on memory was reached");
}

// --- wrong use ---

#[test]
fn a_wrong_command_line_is_answered_in_one_sentence() {
    assert_refused("", "say what to do");
    assert_refused("frobnicate", "'frobnicate'");
    assert_refused("--frobnicate", "'--frobnicate'");
    for command in ["check", "simulate --seed 1", "walks"] {
        assert_refused(&format!("{command} --frobnicate"), "'--frobnicate'");
        assert_refused(&format!("{command} surplus"), "'surplus'");
        assert_refused(&format!("{command} --n"), "'--n <N>'");
        assert_refused(&format!("{command} --n many"), "'many'");
        assert_refused(&format!("{command} --n 0"), "'0'");
        assert_refused(&format!("{command} --n 41"), "'41'");
        assert_refused(&format!("{command} --f -1"), "'-1'");
        assert_refused(&format!("{command} --f 65536"), "'65536'");
        assert_refused(&format!("{command} --rules frobnicate"), "pbft check --list-rules");
    }
    assert_refused("check --requests 0", "'0'");
    assert_refused("check --memory -1", "'-1'");
    assert_refused("check --memory 0", "a number of GiB above 0");
    assert_refused("check --threads 0", "'0'");
    assert_refused("check --time 0", "a number of seconds above 0");
    assert_refused("falsify --world n4f1", "no world of the suites is called n4f1");
    assert_refused("check --suite some", "'some'");
    assert_refused("check --suite full --n 4", "'--suite <SUITE>'");
    assert_refused("check --world n4f1 --n 4", "'--world <NAME>'");
    assert_refused("check --world n4f1", "no world of the suites is called n4f1");
    assert_refused("check --explore layered --checkpoint-interval 1", "use --explore lazy");
    assert_refused("check --byzantine 4", "--byzantine names replica 4, but they are 0 to 3");
    assert_refused("check --checkpoint-interval 0", "--checkpoint-interval must be at least 1");
    assert_refused("walks --walks 0", "'0'");
    assert_refused("walks --memory 0", "a number of GiB above 0");
    assert_refused("walks --byzantine 4", "--byzantine names replica 4, but they are 0 to 3");
    assert_refused("simulate", "--seed <SEED>");
    assert_refused("simulate --seed 1 --crypto rot13", "'rot13'");
    assert_refused(
        "simulate --seed 1 --byzantine-count 5",
        "--byzantine-count may be at most --n, which is 4",
    );
}

#[test]
fn a_cluster_that_can_have_no_quorum_is_refused() {
    for command in ["check", "simulate --seed 1", "walks"] {
        assert_refused(
            &format!("{command} --n 4 --f 4"),
            "a quorum is 5 replicas, more than the 4 there are",
        );
        assert_refused(&format!("{command} --f 65535"), "raise --n or lower --f");
    }
}

#[test]
fn simulating_nothing_is_refused_rather_than_called_a_success() {
    assert_refused("simulate --seed 0 --seeds 0", "'0'");
    assert_refused(&format!("simulate --seed {} --seeds 2", u64::MAX), "lower --seed or --seeds");
}

#[test]
fn help_succeeds_and_shows_an_example() {
    for command in ["--help", "help", "check --help", "simulate --help", "walks --help"] {
        let (status, stdout, stderr) = pbft(command);
        assert_eq!((status, stderr.as_str()), (0, ""), "{command}");
        assert!(stdout.contains("pbft"), "{command}: {stdout}");
        assert!(stdout.contains("Example"), "{command}: {stdout}");
    }
}

// --- prove ---

#[test]
fn without_a_solver_nothing_is_proved_and_one_sentence_says_how_to_get_one() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pbft"));
    let output = command.arg("prove").env("PATH", "/nonexistent").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(UNKNOWN), 0), "{stderr}");
    assert_eq!(stderr, "pbft: a solver is not installed, so nothing is known: `apt install z3`\n");
}

#[test]
fn prove_switches_off_what_a_guard_stands_for_and_refuses_the_rest() {
    assert_refused("prove --rules no-such-rule", "`pbft prove --list-rules` lists them");
    assert_refused("prove --rules null-fills-gaps", "stands for null-fills-gaps: it is for progress");
    let (status, stdout, _) = pbft("prove --list-rules");
    assert_eq!((status, stdout.lines().count()), (HOLDS, 61), "{stdout}");
    assert!(stdout.contains("\nhighest-view-wins              new_view_entry\n"), "{stdout}");
}

#[test]
fn the_obligations_are_written_for_any_solver() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pbft"));
    command.args(["prove", "--smt"]).arg(directory.path()).env("PATH", "/nonexistent");
    assert_eq!(command.output().unwrap().status.code(), Some(UNKNOWN));
    let script = std::fs::read_to_string(directory.path().join("prepare.one_vote.smt2")).unwrap();
    assert!(
        script.starts_with("; Kept: A replica accepts one digest for each view and number. While: "),
        "{script}"
    );
    assert!(script.contains("(set-logic UF)\n") && script.ends_with("\n(check-sat)\n"), "{script}");
}
