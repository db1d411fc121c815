//! An entry of `external` with a `base_url`, and what of it can be wrong before anything is sent.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ureq::http::Uri;

use super::error::EndpointError;
pub use crate::options::OnTeacherFailure;
use crate::options::Reasoning;

/// The place of the prompt in a template.
const QUESTION: &str = "{Question}";

/// How long and how often a server is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Patience {
    /// Limit of one request, from connecting to the last byte.
    pub timeout: Duration,
    /// Further tries after the first.
    pub max_retries: usize,
    /// Wait before the first further try; it doubles with each.
    pub first_wait: Duration,
    /// Longest wait between two tries, also where the server asks for more.
    pub longest_wait: Duration,
    /// Requests that may fail in a row before no more are sent; 0 = no limit.
    pub max_consecutive_failures: usize,
    /// How long none is sent then; it doubles while the server stays away, up to ten times.
    pub breaker_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            max_retries: 5,
            first_wait: Duration::from_secs(3),
            longest_wait: Duration::from_secs(300),
            max_consecutive_failures: 10,
            breaker_pause: Duration::from_secs(60),
        }
    }
}

/// What an endpoint may be asked and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Requests at a time.
    pub max_concurrency: usize,
    /// Requests begun per minute, evenly spread.
    pub requests_per_minute: Option<f64>,
    /// Price of a million tokens of prompts.
    pub price_per_million_input_tokens: f64,
    /// Price of a million tokens of answers.
    pub price_per_million_output_tokens: f64,
    /// No request begins once this is spent, the record's entries of this teacher included.
    pub max_cost: Option<f64>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            max_concurrency: 8,
            requests_per_minute: None,
            price_per_million_input_tokens: 0.0,
            price_per_million_output_tokens: 0.0,
            max_cost: None,
        }
    }
}

impl Budget {
    /// The price of so many tokens.
    #[must_use]
    pub fn price(&self, input_tokens: u64, output_tokens: u64) -> f64 {
        let per_million = |tokens: u64, price: f64| tokens as f64 * price / 1e6;
        per_million(input_tokens, self.price_per_million_input_tokens)
            + per_million(output_tokens, self.price_per_million_output_tokens)
    }
}

impl Budget {
    #[rustfmt::skip] // One check a line: this is a table.
    fn checks(&self) -> Vec<Check> {
        let Self { max_concurrency, requests_per_minute, max_cost, .. } = *self;
        let (input, output) = (self.price_per_million_input_tokens, self.price_per_million_output_tokens);
        let is_free = input == 0.0 && output == 0.0;
        vec![
            check("price_per_million_input_tokens", !is_number(input, 0.0), "is no price", "use 0 or more"),
            check("price_per_million_output_tokens", !is_number(output, 0.0), "is no price", "use 0 or more"),
            check("max_concurrency", max_concurrency == 0, "is 0", "use 1 or more"),
            check("requests_per_minute", requests_per_minute.is_some_and(|rate| !is_number(rate, 1e-3)), "is no rate", "use a number above 0"),
            check("max_cost", max_cost.is_some_and(|cost| !is_number(cost, 0.0)), "is no amount", "use 0 or more"),
            check("max_cost", max_cost.is_some() && is_free, "is set, but the entry has no price", "give `price_per_million_input_tokens` and `price_per_million_output_tokens`"),
        ]
    }
}

/// A value that cannot be used, if `is_wrong`.
struct Check {
    key: &'static str,
    is_wrong: bool,
    problem: &'static str,
    hint: &'static str,
}

const fn check(
    key: &'static str,
    is_wrong: bool,
    problem: &'static str,
    hint: &'static str,
) -> Check {
    Check {
        key,
        is_wrong,
        problem,
        hint,
    }
}

fn is_number(value: f64, least: f64) -> bool {
    value.is_finite() && value >= least
}

/// An OpenAI-compatible server as a source of actions.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// The name in every log and in the record.
    pub name: String,
    /// `http` or `https`. A bare host gets `/v1`; any path is kept, with or without `/chat/completions` at its end.
    pub base_url: String,
    /// The server's name of the model.
    pub model: String,
    /// Environment variable that holds the key; `None` for servers without one.
    pub api_key_env: Option<String>,
    /// Actions per prompt.
    pub num_actions: usize,
    /// `None` = not sent, for models that refuse it.
    pub temperature: Option<f64>,
    /// `None` = not sent.
    pub top_p: Option<f64>,
    /// Tokens of one action at most, in the server's tokens.
    pub max_tokens: usize,
    /// Action n asks with a seed made of this and n. `None` = none is sent.
    pub seed: Option<u64>,
    /// Ask for the log-probabilities of the tokens.
    pub logprobs: bool,
    /// What becomes of thoughts that the server gives apart from the answer.
    pub reasoning: Reasoning,
    /// A text with `{Question}` where the example's own prompt goes; `None` = that prompt alone.
    pub prompt_template: Option<String>,
    /// Pictures with more pixels are made smaller before they are sent.
    pub max_pixels: usize,
    /// The folder whose picture files may be sent; `None` = any file that a row names.
    pub image_folder: Option<PathBuf>,
    /// Time-outs, retries and the breaker.
    pub patience: Patience,
    /// Pace and price.
    pub budget: Budget,
    /// What a lost action means.
    pub on_teacher_failure: OnTeacherFailure,
    /// Ends every wait when it becomes true.
    pub stop: Option<&'static AtomicBool>,
}

impl EndpointOptions {
    /// What pictures are scaled down to for a server where the run sets no `max_pixels`: its price grows with them.
    pub const MAX_PIXELS: usize = 401_408;

    /// An entry with its three required keys and the default of every other.
    #[must_use]
    pub fn new(name: &str, base_url: &str, model: &str) -> Self {
        Self {
            name: name.to_owned(),
            base_url: base_url.to_owned(),
            model: model.to_owned(),
            api_key_env: None,
            num_actions: 1,
            temperature: Some(0.2),
            top_p: None,
            max_tokens: 1024,
            seed: None,
            logprobs: false,
            reasoning: Reasoning::default(),
            prompt_template: None,
            max_pixels: Self::MAX_PIXELS,
            image_folder: None,
            patience: Patience::default(),
            budget: Budget::default(),
            on_teacher_failure: OnTeacherFailure::default(),
            stop: None,
        }
    }

    /// The address that requests go to.
    ///
    /// # Errors
    /// [`EndpointError::Option`] names the key that cannot be used.
    pub(super) fn checked_url(&self) -> Result<Uri, EndpointError> {
        self.check_values()?;
        let fault = |problem: &str| {
            let hint =
                "expected an address such as https://api.openai.com/v1 or http://localhost:8000";
            Err(self.fault("base_url", problem, hint))
        };
        // A key in an address would reach logs and records.
        if self.base_url.contains(['@', '?', '#']) {
            return fault(
                "holds a user, a query or a fragment; keys belong into the environment variable of `api_key_env`",
            );
        }
        let Ok(uri) = self.base_url.trim().parse::<Uri>() else {
            return fault("is no address");
        };
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return fault("is no http or https address");
        }
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/chat/completions").unwrap_or(path);
        let path = if path.is_empty() { "/v1" } else { path };
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}{path}/chat/completions")
            .parse()
            .or_else(|_| fault("is no address"))
    }

    fn check_values(&self) -> Result<(), EndpointError> {
        let mut checks = self.budget.checks();
        checks.extend(self.checks());
        let found = checks.into_iter().find(|check| check.is_wrong);
        found.map_or(Ok(()), |check| {
            Err(self.fault(check.key, check.problem, check.hint))
        })
    }

    #[rustfmt::skip] // One check a line: this is a table.
    fn checks(&self) -> Vec<Check> {
        let has_no_place = |text: &String| text.matches(QUESTION).count() != 1;
        vec![
            check("model", self.model.is_empty(), "is empty", "name the model as the server does"),
            check("num_actions", self.num_actions == 0, "is 0", "use 1 or more"),
            check("max_tokens", self.max_tokens == 0, "is 0", "use 1 or more"),
            check("max_pixels", self.max_pixels == 0, "is 0", "use 1 or more"),
            check("timeout_s", self.patience.timeout.is_zero(), "is 0", "use more than 0"),
            check("temperature", self.temperature.is_some_and(|value| !is_number(value, 0.0)), "is no temperature", "use 0 or more"),
            check("top_p", self.top_p.is_some_and(|value| !is_number(value, 0.0) || value > 1.0), "is no probability", "use a number from 0 to 1"),
            check("prompt_template", self.prompt_template.as_ref().is_some_and(has_no_place), "does not hold `{Question}` once", "write `{Question}` where the prompt goes"),
        ]
    }

    fn fault(&self, key: &'static str, problem: &str, hint: &'static str) -> EndpointError {
        EndpointError::Option {
            key,
            problem: problem.to_owned(),
            hint,
        }
    }

    /// The text before and after the example's own prompt.
    pub(super) fn template(&self) -> (&str, &str) {
        let template = self.prompt_template.as_deref().unwrap_or(QUESTION);
        template.split_once(QUESTION).unwrap_or(("", ""))
    }
}

/// Whether the address is this machine itself.
pub(super) fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed() {
        for (base_url, address) in [
            (
                "https://api.openai.com",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                "https://api.openai.com/v1",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                "http://localhost:8000/",
                "http://localhost:8000/v1/chat/completions",
            ),
            (
                "http://[::1]:80/v1/chat/completions/",
                "http://[::1]:80/v1/chat/completions",
            ),
            (
                "https://generativelanguage.googleapis.com/v1beta/openai/",
                "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
            ),
        ] {
            let found = EndpointOptions::new("a", base_url, "m")
                .checked_url()
                .expect("usable");
            assert_eq!(found.to_string(), address, "{base_url}");
        }
    }

    #[test]
    fn addresses_that_cannot_be_are_refused_without_being_shown() {
        for base_url in [
            "",
            "localhost:8000",
            "ftp://a/v1",
            "/v1",
            "http://",
            "https://user:hunter22@a/v1",
            "https://a/v1?key=hunter22",
            "http://a b/",
        ] {
            let error = EndpointOptions::new("a", base_url, "m")
                .checked_url()
                .expect_err("refused");
            let text = error.to_string();
            assert!(
                text.starts_with("`base_url` ") && text.contains("\nhint: "),
                "{text}"
            );
            assert!(!text.contains("hunter22"), "{text}");
        }
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        let usable = EndpointOptions::new("a", "http://a", "m");
        type Change = fn(&mut EndpointOptions);
        let changes: [(&str, Change); 8] = [
            ("model", |options| options.model.clear()),
            ("num_actions", |options| options.num_actions = 0),
            ("max_concurrency", |options| {
                options.budget.max_concurrency = 0
            }),
            ("requests_per_minute", |options| {
                options.budget.requests_per_minute = Some(0.0)
            }),
            ("max_cost", |options| options.budget.max_cost = Some(1.0)),
            ("top_p", |options| options.top_p = Some(1.5)),
            ("temperature", |options| {
                options.temperature = Some(f64::NAN)
            }),
            ("prompt_template", |options| {
                options.prompt_template = Some("x".to_owned())
            }),
        ];
        for (key, change) in changes {
            let mut options = usable.clone();
            change(&mut options);
            let text = options.checked_url().expect_err("refused").to_string();
            assert!(text.starts_with(&format!("`{key}` ")), "{text}");
        }
    }

    #[test]
    fn tokens_have_a_price() {
        let budget = Budget {
            price_per_million_input_tokens: 2.5,
            price_per_million_output_tokens: 10.0,
            ..Budget::default()
        };
        // 1000 · 2.5 / 1e6 + 200 · 10 / 1e6
        assert!((budget.price(1000, 200) - 0.0045).abs() < 1e-12);
    }

    #[test]
    fn this_machine_is_known() {
        for (address, expected) in [
            ("http://localhost:1/", true),
            ("http://127.0.0.1/", true),
            ("http://[::1]:1/", true),
            ("http://10.0.0.1/", false),
            ("https://api.openai.com/", false),
        ] {
            assert_eq!(is_loopback(&address.parse().expect("an address")), expected);
        }
    }
}
