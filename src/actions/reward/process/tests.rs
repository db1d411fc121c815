//! Real programs: shell scripts that do everything wrong, and the Python server with functions of other trainers.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::tests::{action, example};
use super::*;
use crate::record::Task;

fn options(command: &[&str]) -> ProcessOptions {
    ProcessOptions {
        name: "judge".into(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        timeout: Duration::from_secs(20),
        max_restarts: 0,
        measures_accuracy: false,
        pictures: RewardPictures::Pil,
        hidden_variables: Vec::new(),
    }
}

fn start(options: ProcessOptions) -> RewardProcess {
    RewardProcess::start(options).expect("it starts")
}

/// Asks for the rewards of these texts, all for one example.
fn ask(process: &mut RewardProcess, texts: &[&str]) -> Result<Vec<Option<f32>>, String> {
    let gold = example(Some(Task::Counting), "3");
    let actions: Vec<Action> = texts.iter().map(|text| action(text)).collect();
    let pairs: Vec<(&Action, &Example)> = actions.iter().map(|action| (action, &gold)).collect();
    process.score(&pairs, 5).map_err(|error| error.to_string())
}

#[cfg(unix)]
mod shell {
    use super::*;

    fn script(text: &str) -> ProcessOptions {
        options(&["sh", "-c", text])
    }

    #[test]
    fn a_program_neither_gets_nor_shows_a_key() {
        // A variable that every test run has; its value stands in for a key.
        let variable = "CARGO_MANIFEST_DIR";
        let key = std::env::var(variable).expect("set by cargo");
        for text in [
            "read -r line; echo \"env: $CARGO_MANIFEST_DIR\" >&2; exit 3".to_owned(),
            format!("read -r line; echo 'found {key}' >&2; exit 3"),
            format!("read -r line; echo 'answer {key}'"),
            format!("echo 'early {key}'; read -r line; echo '[1]'"),
        ] {
            let mut options = script(&text);
            options.hidden_variables = vec![variable.to_owned()];
            let mut process = start(options);
            sleep(Duration::from_millis(300));
            let said = ask(&mut process, &["a"]).expect_err("no reward");
            assert!(!said.contains(&key), "{said}");
            assert!(
                said.contains("[key removed]") || said.contains("env:\n"),
                "{said}"
            );
        }
    }

    /// What a script says to a batch of two, at most `seconds` later.
    fn refused(options: ProcessOptions, seconds: u64) -> String {
        let begin = Instant::now();
        let mut process = start(options);
        let text = ask(&mut process, &["a", "b"]).expect_err("refused");
        drop(process);
        assert!(
            begin.elapsed() < Duration::from_secs(seconds),
            "{:?}: {text}",
            begin.elapsed()
        );
        assert!(text.starts_with("reward `judge` (`sh -c "), "{text}");
        assert!(text.contains("\nhint: "), "{text}");
        text
    }

    fn is_alive(process: &str) -> bool {
        match std::fs::read_to_string(format!("/proc/{process}/stat")) {
            // A killed orphan is a zombie where nobody collects it.
            Ok(stat) => !stat.contains(") Z "),
            Err(_) if Path::new("/proc/self/stat").exists() => false,
            Err(_) => Command::new("kill")
                .args(["-0", process])
                .status()
                .is_ok_and(|status| status.success()),
        }
    }

    /// Whether a process is gone, or is about to.
    fn has_ended(process: &str) -> bool {
        (0..200).any(|_| {
            sleep(Duration::from_millis(10));
            !is_alive(process)
        })
    }

    /// A file's content, once there is some.
    fn content(path: &Path) -> String {
        for _ in 0..500 {
            match std::fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                _ => sleep(Duration::from_millis(10)),
            }
        }
        panic!("{} was never written", path.display())
    }

    #[test]
    fn one_program_answers_every_batch() {
        let mut process = start(script(
            "n=0; while read -r line; do n=$((n+1)); echo \"[$n, null]\"; done",
        ));
        assert_eq!(ask(&mut process, &["a", "b"]), Ok(vec![Some(1.0), None]));
        assert_eq!(ask(&mut process, &[]), Ok(vec![]), "nothing to ask");
        assert_eq!(
            ask(&mut process, &["a", "b"]),
            Ok(vec![Some(2.0), None]),
            "kept running"
        );
    }

    #[test]
    fn it_is_given_time() {
        let mut process = start(script(
            "while read -r line; do sleep 0.4; echo '{\"rewards\": [1]}'; done",
        ));
        assert_eq!(ask(&mut process, &["a"]), Ok(vec![Some(1.0)]));
    }

    #[test]
    fn a_thousand_completions_and_megabytes_of_text() {
        let list: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let list = list.join(",");
        let mut process = start(script(&format!(
            "while read -r line; do echo '[{list}]'; done"
        )));
        let long = "long ".repeat(300);
        let rewards = ask(&mut process, &vec![long.as_str(); 1000]).expect("answered");
        assert_eq!((rewards.len(), rewards[999]), (1000, Some(999.0)));
    }

    #[test]
    fn a_program_that_hangs_ends_with_everything_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("numbers");
        let text = format!("sleep 1000 & echo \"$$ $!\" > {}; wait", file.display());
        let mut options = script(&text);
        options.timeout = Duration::from_millis(300);
        let said = refused(options, 10);
        assert!(
            said.contains("no answer within 0.3 s\nhint: raise `timeout_s`"),
            "{said}"
        );
        for process in content(&file).split(' ') {
            assert!(has_ended(process), "{process}");
        }
    }

    #[test]
    fn a_program_that_never_reads_cannot_block_us() {
        let mut options = script("sleep 1000");
        options.timeout = Duration::from_millis(300);
        let begin = Instant::now();
        let mut process = start(options);
        let long = "x".repeat(1 << 20);
        let said = ask(&mut process, &[&long]).expect_err("more than a pipe holds");
        assert!(said.contains("no answer within"), "{said}");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_end_of_a_program_is_told_with_its_last_words() {
        let said = refused(script("echo 'cannot load the judge' >&2; exit 3"), 10);
        let words = "it ended (exit status: 3) without an answer\nits last lines on standard error:\n  cannot load the judge\nhint: run the command";
        assert!(said.contains(words), "{said}");
        let said = refused(script("read -r line; kill -9 $$"), 10);
        assert!(said.contains("it ended (signal: 9"), "{said}");
        let said = refused(script("read -r line; exec >&-; sleep 1000"), 10);
        assert!(
            said.contains("it closed its standard output and goes on running"),
            "{said}"
        );
    }

    #[test]
    fn an_ended_program_is_noticed_in_the_next_batch() {
        let mut process = start(script("read -r line; echo '[1]'; exit 0"));
        assert_eq!(ask(&mut process, &["a"]), Ok(vec![Some(1.0)]));
        sleep(Duration::from_millis(100));
        let said = ask(&mut process, &["a"]).expect_err("it has ended");
        assert!(said.contains("it ended (exit status: 0)"), "{said}");
    }

    #[test]
    fn output_that_is_no_answer_is_quoted() {
        let answers =
            |text: &str| refused(script(&format!("while read -r line; do {text}; done")), 10);
        let said = answers("echo 'scoring 2 completions'; echo '[1, 1]'");
        assert!(
            said.contains("found `scoring 2 completions` (expected value"),
            "{said}"
        );
        assert!(
            said.contains("hint: standard output is for answers only"),
            "{said}"
        );
        let said = answers("echo '[1]'");
        assert!(
            said.contains("expected 2 rewards, one per completion, found 1 in `[1]`"),
            "{said}"
        );
        let said = answers("echo '[1, NaN]'");
        assert!(
            said.contains("as reward 2 of 2 (example `train-1`), found NaN"),
            "{said}"
        );
        let said = answers("yes");
        assert!(said.contains("found `y`"), "{said}");
        let said = answers("yes | tr -d '\\n'");
        assert!(
            said.contains("found a longer line that begins `yyy"),
            "{said}"
        );
        let said = refused(
            script("echo Welcome; while read -r line; do echo '[1, 1]'; done"),
            10,
        );
        assert!(said.contains("`Welcome`"), "{said}");
    }

    #[test]
    fn empty_lines_do_not_stretch_the_time() {
        let mut options = script("yes ''");
        options.timeout = Duration::from_millis(300);
        assert!(refused(options, 10).contains("no answer within 0.3 s"));
    }

    #[test]
    fn a_second_line_is_not_taken_for_the_next_answer() {
        let mut process = start(script(
            "while read -r line; do echo '[1]'; echo '[7]'; done",
        ));
        assert_eq!(ask(&mut process, &["a"]), Ok(vec![Some(1.0)]));
        sleep(Duration::from_millis(300));
        let said = ask(&mut process, &["a"]).expect_err("a line too many");
        assert!(
            said.contains("it printed `[7]` before it was asked"),
            "{said}"
        );
    }

    #[test]
    fn a_flood_of_messages_blocks_nobody() {
        let mut process = start(script(
            "while read -r line; do yes 'a warning' | head -c 3000000 >&2; echo '[1]'; done",
        ));
        for _ in 0..2 {
            assert_eq!(ask(&mut process, &["a"]), Ok(vec![Some(1.0)]));
        }
    }

    /// A script that misbehaves the first `times` times it is started.
    fn at_first(folder: &Path, times: usize, misdeed: &str) -> ProcessOptions {
        let file = folder.join("starts");
        script(&format!(
            "echo x >> {0}; read -r line; if [ $(wc -l < {0}) -le {times} ]; then {misdeed}; fi; echo '[1]'; \
             while read -r line; do echo '[2]'; done",
            file.display()
        ))
    }

    #[test]
    fn an_accident_starts_it_again_and_the_batch_is_asked_again() {
        for misdeed in ["exit 1", "sleep 1000"] {
            let folder = tempfile::tempdir().expect("a folder");
            let mut options = at_first(folder.path(), 2, misdeed);
            options.timeout = Duration::from_secs(1);
            options.max_restarts = 2;
            let mut process = start(options);
            assert_eq!(ask(&mut process, &["a"]), Ok(vec![Some(1.0)]), "{misdeed}");
            assert_eq!(ask(&mut process, &["a"]), Ok(vec![Some(2.0)]), "{misdeed}");
        }
    }

    #[test]
    fn after_the_last_restart_the_reason_is_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = at_first(folder.path(), 9, "echo again >&2; exit 1");
        options.max_restarts = 2;
        let said = refused(options, 10);
        let words = "it ended (exit status: 1) without an answer, also after it was started again 2 times\nits last";
        assert!(said.contains(words), "{said}");
        let starts = std::fs::read_to_string(folder.path().join("starts")).expect("written");
        assert_eq!(starts.lines().count(), 3);
    }

    #[test]
    fn a_mistake_is_not_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = at_first(folder.path(), 1, "echo oops");
        options.max_restarts = 3;
        assert!(refused(options, 10).contains("found `oops`"));
        let starts = std::fs::read_to_string(folder.path().join("starts")).expect("written");
        assert_eq!(starts.lines().count(), 1);
    }

    #[test]
    fn at_the_end_its_input_ends_and_it_may_tidy_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("end");
        let text = format!(
            "while read -r line; do echo '[1]'; done; echo tidy > {}",
            file.display()
        );
        let mut process = start(script(&text));
        assert_eq!(ask(&mut process, &["a"]), Ok(vec![Some(1.0)]));
        let begin = Instant::now();
        drop(process);
        assert_eq!(std::fs::read_to_string(&file).expect("written"), "tidy\n");
        assert!(
            begin.elapsed() < Duration::from_secs(1),
            "it was not waited for longer than needed"
        );
    }

    #[test]
    fn one_that_does_not_end_with_its_input_is_killed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("number");
        let text = format!(
            "trap '' TERM HUP INT; echo $$ > {}; while true; do sleep 1; done",
            file.display()
        );
        let process = start(script(&text));
        let number = content(&file);
        assert!(is_alive(&number));
        drop(process);
        assert!(has_ended(&number));
    }

    #[test]
    fn programs_that_cannot_be_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("not-executable");
        std::fs::write(&file, "[1]").expect("written");
        let file = file.display().to_string();
        for (command, words) in [
            (
                vec!["no-such-program-here", "x"],
                "the program `no-such-program-here` was not found\nhint: check the first word",
            ),
            (
                vec![file.as_str()],
                "the program cannot be started: Permission denied",
            ),
            (
                vec![],
                "`command` is empty\nhint: give the program and its arguments as a list",
            ),
        ] {
            let said = RewardProcess::start(options(&command))
                .expect_err("refused")
                .to_string();
            assert!(said.contains(words), "{said}");
        }
    }
}

/// The server with a function of this Python text; `None`, said aloud, where there is no Python.
fn server(folder: &Path, text: &str, style: &str) -> Option<RewardProcess> {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: no python3 was found");
        return None;
    }
    let file = folder.join("rewards.py");
    std::fs::write(&file, text).expect("written");
    let server: PathBuf = [env!("CARGO_MANIFEST_DIR"), "python", "reward_server.py"]
        .iter()
        .collect();
    let (server, function) = (
        server.display().to_string(),
        format!("{}:reward", file.display()),
    );
    Some(start(options(&[
        "python3", &server, &function, "--style", style,
    ])))
}

#[test]
fn a_reward_function_of_trl_is_served_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = r#"
import os, re
print("loading")
def reward(prompts, completions, completion_ids, solution, id, trainer_state, log_metric, **kwargs):
    print("scoring", len(completions), "at", trainer_state.global_step)
    os.system("echo from a shell; cat")
    log_metric("seen", len(completions))
    assert len(prompts) == len(completion_ids) == len(id) == len(completions)
    contents = [completion[0]["content"] for completion in completions]
    found = [re.search(r"<answer>(.*?)</answer>", content) for content in contents]
    return [None if match is None else match.group(1) == gold for match, gold in zip(found, solution)]
"#;
    let Some(mut process) = server(folder.path(), text, "trl") else {
        return;
    };
    let texts = ["<answer>3</answer>", "<answer>4 ü\n</answer>", "three"];
    for _ in 0..2 {
        assert_eq!(ask(&mut process, &texts), Ok(vec![Some(1.0), None, None]));
    }
}

#[test]
fn a_coroutine_of_trl_is_awaited() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "async def reward(completions, **kwargs):\n    return [len(c[0]['content']) for c in completions]\n";
    let Some(mut process) = server(folder.path(), text, "trl") else {
        return;
    };
    assert_eq!(
        ask(&mut process, &["", "ab"]),
        Ok(vec![Some(0.0), Some(2.0)])
    );
}

#[test]
fn an_exception_is_told_with_its_traceback() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "def reward(completions, **kwargs):\n    return [1 / 0 for c in completions]\n";
    let Some(mut process) = server(folder.path(), text, "trl") else {
        return;
    };
    let said = ask(&mut process, &["a"]).expect_err("an exception");
    assert!(
        said.contains("it ended (exit status: 1)") || cfg!(not(unix)),
        "{said}"
    );
    assert!(
        said.contains("ZeroDivisionError: division by zero"),
        "{said}"
    );
    assert!(said.contains("rewards.py\", line 2"), "{said}");
}

#[test]
fn a_value_that_is_not_a_number_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "def reward(completions, **kwargs):\n    return [1.0, float('nan')]\n";
    let Some(mut process) = server(folder.path(), text, "trl") else {
        return;
    };
    let said = ask(&mut process, &["a", "b"]).expect_err("NaN");
    assert!(
        said.contains("as reward 2 of 2 (example `train-1`), found NaN"),
        "{said}"
    );
}

#[test]
fn functions_of_verl_and_easyr1_are_served_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let verl = r#"
def reward(data_source, solution_str, ground_truth, extra_info=None):
    assert (data_source, extra_info) == ("counting", {"level": 2}), (data_source, extra_info)
    right = float(solution_str == ground_truth)
    return {"score": right, "acc": right} if ground_truth == "7" else right
"#;
    let Some(mut process) = server(folder.path(), verl, "verl") else {
        return;
    };
    let mut gold = example(None, "7");
    gold.columns = json!({"data_source": "counting", "extra_info": {"level": 2}, "reward_model": {"ground_truth": "7"}})
        .as_object()
        .expect("an object")
        .clone();
    let (right, wrong) = (action("7"), action("8"));
    let rewards = process.score(&[(&right, &gold), (&wrong, &gold)], 0);
    assert_eq!(rewards.expect("answered"), [Some(1.0), Some(0.0)]);

    let easyr1 = r#"
def reward(reward_inputs, format_weight=0.1):
    assert isinstance(reward_inputs, list)
    return [
        {"overall": float(row["response"] == row["ground_truth"]) + row["response_length"], "format": 0.0}
        for row in reward_inputs
    ]
"#;
    let mut process =
        server(folder.path(), easyr1, "easyr1").expect("there was a Python a moment ago");
    let rewards = process.score(&[(&right, &gold), (&wrong, &gold)], 0);
    assert_eq!(
        rewards.expect("answered"),
        [Some(8.0), Some(7.0)],
        "7 tokens each"
    );
    let sequential = "REWARD_TYPE = 'sequential'\ndef reward(row):\n    return {'overall': len(row['response'])}\n";
    let mut process =
        server(folder.path(), sequential, "easyr1").expect("there was a Python a moment ago");
    assert_eq!(
        ask(&mut process, &["a", "abc"]),
        Ok(vec![Some(1.0), Some(3.0)])
    );
}

#[test]
fn plain_prompts_reach_a_function_as_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "def reward(prompts, completions, **columns):\n    return [-abs(20 - len(c)) + len(p) for c, p in zip(completions, prompts)]\n";
    let Some(mut process) = server(folder.path(), text, "trl") else {
        return;
    };
    let mut row = example(None, "8");
    row.columns.insert("prompt".into(), json!("legs?"));
    let (short, long) = (action("eight"), action(&"x".repeat(20)));
    let rewards = process.score(&[(&short, &row), (&long, &row)], 0);
    assert_eq!(rewards.expect("answered"), [Some(-10.0), Some(5.0)]);
    let verl = "def reward(data_source, solution_str, ground_truth, extra_info):\n    return len(solution_str)\n";
    let mut process = server(folder.path(), verl, "verl").expect("a Python");
    let rewards = process.score(&[(&short, &row)], 0);
    assert_eq!(rewards.expect("answered"), [Some(5.0)]);
}

/// Stands in for Pillow beside the function, so that the test needs no package.
fn plant_pillow(folder: &Path) {
    std::fs::create_dir(folder.join("PIL")).expect("a folder");
    let image = r#"
class Image:
    def __init__(self, file):
        self.file, self.turned = file, False
    def getexif(self):
        name = self.file if isinstance(self.file, str) else ""
        return {0x0112: 6} if "phone" in name else {}
def open(file):
    return Image(file)
"#;
    let turn = "def exif_transpose(image):\n    image.turned = True\n    return image\n";
    for (name, text) in [("__init__", ""), ("Image", image), ("ImageOps", turn)] {
        std::fs::write(folder.join(format!("PIL/{name}.py")), text).expect("written");
    }
}

#[test]
fn pictures_are_opened_once_per_prompt() {
    let folder = tempfile::tempdir().expect("a folder");
    plant_pillow(folder.path());
    let text = r#"
def reward(completions, image, images, **columns):
    assert "prompt_pictures" not in columns
    assert image[0] is image[1] and image[2] is None, image
    assert image[0].turned and image[0].file.endswith("phone.jpg")
    assert images[0] is None and len(images[2]) == 2 and images[2][0].file.read() == b"\x01\x02"
    return [1.0] * len(completions)
"#;
    let Some(mut process) = server(folder.path(), text, "trl") else {
        return;
    };
    let [mut one, mut two] = ["one", "two"].map(|id| {
        let mut row = example(None, "8");
        row.id = id.to_owned();
        row
    });
    one.columns.insert("image".into(), json!("phone.jpg"));
    one.images = vec![crate::record::ImageSource::Path("phone.jpg".into())];
    two.columns.insert("images".into(), json!(["a", "b"]));
    two.images = vec![
        crate::record::ImageSource::Bytes(vec![1, 2].into()),
        crate::record::ImageSource::Path("b.png".into()),
    ];
    let answer = action("x");
    let pairs = [(&answer, &one), (&answer, &one), (&answer, &two)];
    let rewards = process.score(&pairs, 0);
    assert_eq!(rewards.expect("answered"), [Some(1.0); 3]);
}

#[test]
fn pictures_may_come_as_paths_of_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = r#"
import os
def reward(completions, image, **columns):
    assert open(image[0], "rb").read() == b"\x89PNG" and image[0].endswith(".png"), image
    assert os.path.isabs(image[1]) and image[1].endswith("b.png")
    return [1.0] * len(completions)
"#;
    if server(folder.path(), text, "trl").is_none() {
        return;
    }
    let server: PathBuf = [env!("CARGO_MANIFEST_DIR"), "python", "reward_server.py"]
        .iter()
        .collect();
    let function = format!("{}:reward", folder.path().join("rewards.py").display());
    let mut options = options(&["python3", &server.display().to_string(), &function]);
    options.pictures = RewardPictures::Paths;
    let mut process = start(options);
    let row = |id: &str, source| {
        let mut row = example(None, "8");
        row.id = id.to_owned();
        row.columns.insert("image".into(), json!("cell"));
        row.images = vec![source];
        row
    };
    let inside = row(
        "in",
        crate::record::ImageSource::Bytes(b"\x89PNG"[..].into()),
    );
    let beside = row("by", crate::record::ImageSource::Path("b.png".into()));
    let answer = action("x");
    let rewards = process.score(&[(&answer, &inside), (&answer, &beside)], 0);
    assert_eq!(rewards.expect("answered"), [Some(1.0); 2]);
}
