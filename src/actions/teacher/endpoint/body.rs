//! A question as the body of a chat request, in the dialect of its server. Knows nothing of sockets, answers or the record.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::chat::{Part, Question};
use super::dialect::{Dialect, Parameter};
use super::failure::Failure;
use super::options::EndpointOptions;
use super::picture;
use super::retry::mixed;

impl Question {
    /// The body of a request for these actions at once.
    ///
    /// # Errors
    /// A picture that cannot be decoded.
    pub(super) fn body(
        &self,
        options: &EndpointOptions,
        samples: &[usize],
        dialect: Dialect,
    ) -> Result<Vec<u8>, Failure> {
        let uris = self
            .pictures
            .iter()
            .map(|bytes| picture::data_uri(bytes, options.max_pixels))
            .collect::<Result<Vec<_>, _>>()?;
        let turns: Vec<Value> = self
            .turns
            .iter()
            .map(|(role, parts)| json!({"role": role, "content": content(parts, &uris)}))
            .collect();
        let mut body = Map::new();
        body.insert("model".to_owned(), options.model.clone().into());
        body.insert("messages".to_owned(), turns.into());
        let limit = if dialect.max_completion_tokens {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        for (parameter, value) in self.optional(options, samples) {
            let name = match parameter {
                Parameter::MaxTokens => limit,
                other => other.name(),
            };
            if dialect.sends(parameter) {
                body.insert(name.to_owned(), value);
            }
        }
        // Some servers stream unless told otherwise.
        body.insert("stream".to_owned(), false.into());
        Ok(Value::from(body).to_string().into_bytes())
    }

    /// The parameters that a server may refuse, with their values.
    fn optional(&self, options: &EndpointOptions, samples: &[usize]) -> Vec<(Parameter, Value)> {
        let seed = options.seed.zip(samples.first());
        let seed = seed.map(|(seed, first)| sample_seed(seed, &self.id, *first).into());
        let several = samples.len() > 1;
        let values = [
            (Parameter::MaxTokens, Some(options.max_tokens.into())),
            (Parameter::Temperature, options.temperature.map(Value::from)),
            (Parameter::TopP, options.top_p.map(Value::from)),
            (Parameter::Seed, seed),
            (Parameter::N, several.then(|| samples.len().into())),
            (Parameter::Logprobs, options.logprobs.then(|| true.into())),
        ];
        let given = values
            .into_iter()
            .map(|(parameter, value)| Some((parameter, value?)));
        given.flatten().collect()
    }

    /// The parameters of a request for these actions that a server may refuse.
    pub(super) fn optional_parameters(
        &self,
        options: &EndpointOptions,
        samples: &[usize],
    ) -> Vec<Parameter> {
        let all = self.optional(options, samples);
        all.into_iter().map(|(parameter, _)| parameter).collect()
    }
}

/// Plain text where there is no picture: some servers know no list of parts for a system turn.
fn content(parts: &[Part], uris: &[String]) -> Value {
    if !parts.iter().any(|part| matches!(part, Part::Picture(_))) {
        let text = parts.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Picture(_) => "",
        });
        return text.collect::<String>().into();
    }
    let part = |part: &Part| match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Picture(index) => {
            let uri = uris.get(*index).map_or("", String::as_str);
            json!({"type": "image_url", "image_url": {"url": uri}})
        }
    };
    parts.iter().map(part).collect()
}

/// The seed that the server gets: one per action, within the 31 bits that every server takes.
fn sample_seed(seed: u64, id: &str, sample: usize) -> u64 {
    let digest = Sha256::digest(id);
    let of_id = digest
        .iter()
        .take(8)
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    mixed(mixed(seed ^ of_id).wrapping_add(sample as u64)) >> 33
}

#[cfg(test)]
mod tests {
    use super::super::chat::tests::{body, options, row, text};
    use super::super::dialect::Change;
    use super::*;
    use crate::record::{ContentPart, ImageSource};

    #[test]
    fn a_request_is_what_the_interface_expects() {
        let row = row(vec![
            ("system", vec![text("Be brief.")]),
            ("user", vec![text("How many?"), ContentPart::Image]),
        ]);
        let ImageSource::Bytes(png) = &row.images[0] else {
            panic!("bytes")
        };
        let found = body(&options(), &row, &[0]);
        let uri = picture::data_uri(png, 401_408).expect("a URI");
        let expected = json!({
            "model": "model-1",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "image_url", "image_url": {"url": uri}},
                    {"type": "text", "text": "How many?"},
                ]},
            ],
            "max_tokens": 1024,
            "temperature": 0.2,
            "stream": false,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn optional_parameters_appear_when_they_are_set() {
        let row = row(vec![("user", vec![text("x")])]);
        let mut options = options();
        options.temperature = None;
        let found = body(&options, &row, &[0]);
        for key in ["temperature", "top_p", "seed", "n", "logprobs"] {
            assert!(found.get(key).is_none(), "{key}");
        }
        assert_eq!(found["messages"][0]["content"], "x");
        options.top_p = Some(0.5);
        options.seed = Some(3);
        options.logprobs = true;
        let found = body(&options, &row, &[2, 5]);
        assert_eq!(
            (&found["top_p"], &found["n"], &found["logprobs"]),
            (&json!(0.5), &json!(2), &json!(true))
        );
        assert_eq!(
            found["seed"],
            body(&options, &row, &[2])["seed"],
            "that of the first action"
        );
        let question = Question::new(&options, &row, 1).expect("a question");
        let newer = Dialect::default().with(Change::NewerName);
        let newer =
            String::from_utf8(question.body(&options, &[0], newer).expect("a body")).expect("text");
        assert!(
            newer.contains("\"max_completion_tokens\":1024") && !newer.contains("\"max_tokens\"")
        );
        let refused = [
            Parameter::Seed,
            Parameter::TopP,
            Parameter::Logprobs,
            Parameter::MaxTokens,
        ];
        let sparing = refused.iter().fold(Dialect::default(), |dialect, refused| {
            dialect.with(Change::Without(*refused))
        });
        let sparse = question.body(&options, &[0], sparing).expect("a body");
        let sparse: Value = serde_json::from_slice(&sparse).expect("JSON");
        let keys: Vec<&String> = sparse.as_object().expect("an object").keys().collect();
        assert_eq!(keys.len(), 3, "{keys:?}");
    }

    #[test]
    fn seeds_differ_by_action_and_example_and_fit_31_bits() {
        let seeds: std::collections::BTreeSet<u64> = ["a", "b"]
            .iter()
            .flat_map(|id| (0..50).map(|sample| sample_seed(7, id, sample)))
            .collect();
        assert_eq!(seeds.len(), 100);
        assert!(seeds.iter().all(|seed| *seed < 1 << 31));
    }
}
