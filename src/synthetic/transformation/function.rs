//! Reason-RFT's five functions and their names. It knows no object.

/// The five functions, in the order of the task's prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Function {
    Size,
    Color,
    Material,
    Shape,
    Position,
}

impl Function {
    pub(super) const ALL: [Self; 5] = [
        Self::Size,
        Self::Color,
        Self::Material,
        Self::Shape,
        Self::Position,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Size => "change_size",
            Self::Color => "change_color",
            Self::Material => "change_material",
            Self::Shape => "change_shape",
            Self::Position => "change_position",
        }
    }
}
