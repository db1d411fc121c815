//! The error object inside a server's JSON, whatever status it came under: its words, and whether asking again may help.
//! Knows nothing of HTTP or of waiting.

use serde_json::Value;

/// Codes and types of errors that stay: money, keys, models. A server may send them under any status (OpenAI answers 429
/// where the money is gone), so the code counts more than the status.
const PERMANENT: [(&str, u16); 22] = [
    ("insufficient_quota", 402),
    ("insufficient_balance", 402),
    ("insufficient_credits", 402),
    ("insufficient_funds", 402),
    ("billing_hard_limit_reached", 402),
    ("billing_not_active", 402),
    ("payment_required", 402),
    ("invalid_api_key", 401),
    ("incorrect_api_key", 401),
    ("authentication_error", 401),
    ("invalid_authentication", 401),
    ("unauthorized", 401),
    ("unauthenticated", 401),
    ("permission_error", 403),
    ("permission_denied", 403),
    ("access_terminated", 403),
    ("account_deactivated", 403),
    ("model_not_found", 404),
    ("model_not_exist", 404),
    ("not_found_error", 404),
    ("invalid_model", 404),
    ("invalid_request_error", 400),
];
/// The same as sentences, for servers without codes. They count only where nothing speaks of another try: Gemini calls its
/// limit per minute a quota too.
const PERMANENT_WORDS: [(&str, u16); 10] = [
    ("exceeded your current quota", 402),
    ("insufficient quota", 402),
    ("insufficient balance", 402),
    ("insufficient credit", 402),
    ("credit balance is too low", 402),
    ("invalid api key", 401),
    ("incorrect api key", 401),
    ("no such model", 404),
    ("model does not exist", 404),
    ("model not exist", 404),
];
/// Codes and types of errors that pass.
const PASSING: [(&str, u16); 12] = [
    ("rate_limit_exceeded", 429),
    ("rate_limit_error", 429),
    ("rate_limit", 429),
    ("too_many_requests", 429),
    ("resource_exhausted", 429),
    ("server_error", 500),
    ("internal_error", 500),
    ("internal_server_error", 500),
    ("api_error", 500),
    ("overloaded_error", 529),
    ("overloaded", 529),
    ("timeout", 408),
];

/// The status that an error object speaks of: one of its codes that are known, a number, the status that it came under, a
/// well-known sentence; 500 where nothing says anything, because most of what a relay passes on passes.
pub(super) fn status_of(error: &Value, under: Option<u16>) -> u16 {
    let names: Vec<String> = ["code", "type", "status", "reason", "error_code"]
        .iter()
        .filter_map(|key| error.get(*key)?.as_str())
        .map(|word| word.trim().to_ascii_lowercase().replace(['-', ' '], "_"))
        .collect();
    let listed = |table: &[(&str, u16)]| {
        let known = |name: &String| table.iter().find(|(word, _)| word == name);
        names.iter().find_map(known).map(|(_, status)| *status)
    };
    let number = ["code", "status", "status_code", "http_code"]
        .iter()
        .filter_map(|key| error.get(*key))
        .find_map(|value| {
            let text = || value.as_str()?.trim().parse().ok();
            value.as_u64().or_else(text)
        })
        .and_then(|number| u16::try_from(number).ok())
        .filter(|status| (400..600).contains(status));
    let is_general = |status: &u16| *status == 400;
    let named = listed(&PERMANENT);
    named
        .filter(|status| !is_general(status))
        .or_else(|| sentence(error))
        .or(number)
        .or_else(|| listed(&PASSING))
        .or(under)
        .or(named)
        .unwrap_or(500)
}

fn sentence(error: &Value) -> Option<u16> {
    let words = error.as_str().or_else(|| error.get("message")?.as_str())?;
    let words = words.to_ascii_lowercase();
    if words.contains("retry") || words.contains("try again") {
        return None;
    }
    let found = PERMANENT_WORDS
        .iter()
        .find(|(phrase, _)| words.contains(phrase));
    found.map(|(_, status)| *status)
}

/// `error.message`, `error`, `message` or `detail`, whichever there is.
pub(super) fn message_of(value: &Value) -> String {
    let value = value.get(0).unwrap_or(value);
    let places = ["/error/message", "/error", "/message", "/detail"];
    let found = places
        .iter()
        .filter_map(|place| value.pointer(place))
        .find(|value| !value.is_null());
    match found.unwrap_or(value) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_speaks_of_a_status() {
        for (error, under, status) in [
            (json!({"code": 502, "message": "gone"}), None, 502),
            (json!({"code": "502"}), None, 502),
            (json!({"status": 429}), None, 429),
            (json!("bad"), None, 500),
            (json!({"message": "bad"}), None, 500),
            (json!({"message": "bad"}), Some(422), 422),
            (json!({"code": 3}), None, 500),
            (json!({"type": "overloaded_error"}), None, 529),
            (json!({"code": "rate_limit_exceeded"}), None, 429),
            (json!({"type": "server_error", "code": null}), None, 500),
            // Money, keys and models stay, whatever status they come under.
            (
                json!({"code": "insufficient_quota", "type": "insufficient_quota"}),
                Some(429),
                402,
            ),
            (
                json!({"message": "You exceeded your current quota, please check your plan."}),
                Some(429),
                402,
            ),
            (
                json!({"message": "You exceeded your current quota. Please retry in 34s.", "status": "RESOURCE_EXHAUSTED"}),
                Some(429),
                429,
            ),
            (
                json!({"code": 429, "message": "You exceeded your current quota. Please retry in 34s."}),
                None,
                429,
            ),
            (json!({"message": "Insufficient Balance"}), Some(402), 402),
            (
                json!({"type": "invalid_request_error", "code": "invalid_api_key"}),
                None,
                401,
            ),
            (json!({"type": "authentication_error"}), None, 401),
            (
                json!({"code": "model_not_found", "type": "invalid_request_error"}),
                None,
                404,
            ),
            (json!("no such model: x"), None, 404),
            (json!({"type": "invalid_request_error"}), None, 400),
            (json!({"type": "invalid_request_error"}), Some(429), 429),
        ] {
            assert_eq!(status_of(&error, under), status, "{error} under {under:?}");
        }
    }

    #[test]
    fn the_message_is_found() {
        for (body, message) in [
            (json!({"error": {"message": "a"}}), "a"),
            (json!([{"error": {"message": "a"}}]), "a"),
            (json!({"error": "a"}), "a"),
            (json!({"message": "a"}), "a"),
            (json!({"detail": ["a"]}), "[\"a\"]"),
            (json!({"error": null, "detail": "a"}), "a"),
            (json!({"odd": 1}), "{\"odd\":1}"),
        ] {
            assert_eq!(message_of(&body), message);
        }
    }
}
