//! How weights that do not train are held, and which layers an adapter is laid on.
//!
//! Words and what they ask for; holds no weight and knows no layer.

use serde::{Deserialize, Serialize};

use super::Dtype;

/// The keys `dtype`, `load_in_4bit`, `load_in_8bit` and `quantize_embeddings` of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WeightFormat {
    /// Number format of frozen weights that are not quantised.
    pub dtype: Dtype,
    /// Frozen matrices in 4 bits; excludes `load_in_8bit`.
    pub load_in_4bit: bool,
    /// Frozen matrices in 8 bits.
    pub load_in_8bit: bool,
    /// Frozen embedding table and output head in 8 bits.
    pub quantize_embeddings: bool,
}

/// How one frozen matrix is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// In the number format of its file.
    AsStored,
    /// 4 bytes a number.
    Float32,
    /// 2 bytes a number, the range of float32.
    Bfloat16,
    /// 2 bytes a number, up to 65504.
    Float16,
    /// Blocks of 8-bit numbers with a scale each.
    EightBit,
    /// Blocks of 4-bit numbers with a scale each.
    FourBit,
}

impl WeightFormat {
    /// How the matrices of the layers are held.
    #[must_use]
    pub const fn matrices(self) -> Held {
        match (self.load_in_4bit, self.load_in_8bit) {
            (true, _) => Held::FourBit,
            (false, true) => Held::EightBit,
            (false, false) => self.plain(),
        }
    }

    /// How the embedding table and the output head are held.
    #[must_use]
    pub const fn embeddings(self) -> Held {
        if self.quantize_embeddings {
            Held::EightBit
        } else {
            self.plain()
        }
    }

    /// How biases, norms and everything else that is not quantised are held.
    #[must_use]
    pub const fn plain(self) -> Held {
        match self.dtype {
            Dtype::Auto => Held::AsStored,
            Dtype::Float32 => Held::Float32,
            Dtype::Bfloat16 => Held::Bfloat16,
            Dtype::Float16 => Held::Float16,
        }
    }
}

/// `lora_target_modules`: the layers that get an adapter, as PEFT names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum TargetModules {
    /// Those whose whole name is one of these, or ends in a dot and one of these.
    Names(Vec<String>),
    /// Every linear layer but the output head.
    AllLinear,
    /// Those whose whole name this regular expression matches.
    Pattern(String),
}

impl TargetModules {
    /// The word for every linear layer.
    pub const ALL_LINEAR: &'static str = "all-linear";
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    One(String),
    Several(Vec<String>),
}

impl From<Written> for TargetModules {
    fn from(written: Written) -> Self {
        match written {
            Written::Several(names) => Self::Names(names),
            Written::One(word) if word.eq_ignore_ascii_case(Self::ALL_LINEAR) => Self::AllLinear,
            Written::One(pattern) => Self::Pattern(pattern),
        }
    }
}

impl From<TargetModules> for Written {
    fn from(targets: TargetModules) -> Self {
        match targets {
            TargetModules::Names(names) => Self::Several(names),
            TargetModules::AllLinear => Self::One(TargetModules::ALL_LINEAR.to_owned()),
            TargetModules::Pattern(pattern) => Self::One(pattern),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantised_matrices_win_over_the_number_format_and_embeddings_are_asked_for_apart() {
        let format = |dtype, load_in_4bit, load_in_8bit, quantize_embeddings| {
            let format = WeightFormat {
                dtype,
                load_in_4bit,
                load_in_8bit,
                quantize_embeddings,
            };
            (format.matrices(), format.embeddings(), format.plain())
        };
        assert_eq!(
            format(Dtype::Auto, false, false, false),
            (Held::AsStored, Held::AsStored, Held::AsStored)
        );
        assert_eq!(
            format(Dtype::Bfloat16, true, false, false),
            (Held::FourBit, Held::Bfloat16, Held::Bfloat16)
        );
        assert_eq!(
            format(Dtype::Float32, false, true, true),
            (Held::EightBit, Held::EightBit, Held::Float32)
        );
    }

    #[test]
    fn every_form_of_the_targets_is_read_and_written_back() {
        for (written, targets) in [
            (r#""all-linear""#, TargetModules::AllLinear),
            (
                r#"["q_proj","v_proj"]"#,
                TargetModules::Names(vec!["q_proj".into(), "v_proj".into()]),
            ),
            (
                r#"".*layers\\.0\\..*""#,
                TargetModules::Pattern(r".*layers\.0\..*".into()),
            ),
        ] {
            assert_eq!(
                serde_json::from_str::<TargetModules>(written).unwrap(),
                targets
            );
            assert_eq!(serde_json::to_string(&targets).unwrap(), written);
        }
    }
}
