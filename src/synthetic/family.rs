//! Families of tasks, splits and difficulties, and what they are called. It draws nothing and checks nothing.

/// A family of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// How many objects of a kind a scene has, after CLEVR-Math and Super-CLEVR.
    Counting {
        /// What the scenes look like.
        renderer: Renderer,
        /// Most objects in a scene.
        max_objects: usize,
    },
    /// A number or a choice read from a geometric diagram, after GeoMath and Geometry3K.
    Structure,
    /// What changed between two pictures of a scene, after TRANCE.
    Transformation,
}

/// What counting scenes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Renderer {
    /// Flat shapes of one colour; out of domain muted, turned, on stripes, with stars among them.
    #[default]
    Flat,
    /// The flat pictures with questions about colours alone, and reasoning that goes from cell to cell: what a model of
    /// half a million parameters learns to see and to say within minutes.
    Grid,
    /// Lit cubes, spheres and cylinders of rubber and metal; out of domain outlined vehicles on a pattern.
    Solid,
}

/// Which part of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// What is trained on.
    Train,
    /// The same look; no scene of it is ever a training scene, whatever the seeds.
    Test,
    /// Another look, and other objects or kinds of problem.
    TestOod,
    /// Transformation: the test scenes, their end seen from the left.
    TestOodLeft,
    /// Transformation: the test scenes, their end seen from the right.
    TestOodRight,
}

/// How rich scenes and questions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Difficulty {
    /// Few objects, few words, small numbers, the shortest reasoning: for a model of a million parameters.
    #[default]
    Easy,
    /// Everything that the family has.
    Full,
}

impl Family {
    /// Counting of flat shapes.
    pub const FLAT_COUNTING: Self = Self::Counting {
        renderer: Renderer::Flat,
        max_objects: 6,
    };

    /// Counting of the demo: at most 6 objects on 3 x 3 cells.
    pub const GRID_COUNTING: Self = Self::Counting {
        renderer: Renderer::Grid,
        max_objects: 6,
    };

    /// The name in commands and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counting { .. } => "counting",
            Self::Structure => "structure",
            Self::Transformation => "transformation",
        }
    }

    /// What the family's ids begin with; Reason-RFT tells the tasks apart by it.
    pub(crate) const fn id_prefix(self) -> &'static str {
        match self {
            Self::Counting { .. } => "",
            Self::Structure => "geomath-",
            Self::Transformation => "trance-",
        }
    }

    /// The family's splits.
    #[must_use]
    pub const fn splits(self) -> &'static [Split] {
        match self {
            Self::Counting { .. } | Self::Structure => &[Split::Train, Split::Test, Split::TestOod],
            Self::Transformation => &[
                Split::Train,
                Split::Test,
                Split::TestOodLeft,
                Split::TestOodRight,
            ],
        }
    }
}

impl Renderer {
    /// Every renderer.
    pub const ALL: [Self; 3] = [Self::Flat, Self::Grid, Self::Solid];

    /// The name in commands.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Grid => "grid",
            Self::Solid => "solid",
        }
    }

    /// The renderer of this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|found| found.name() == name)
    }
}

impl Split {
    /// Every split.
    pub const ALL: [Self; 5] = [
        Self::Train,
        Self::Test,
        Self::TestOod,
        Self::TestOodLeft,
        Self::TestOodRight,
    ];

    /// The name in commands, files and ids.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
            Self::TestOod => "test-ood",
            Self::TestOodLeft => "test-ood-left",
            Self::TestOodRight => "test-ood-right",
        }
    }

    /// The split of this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|split| split.name() == name)
    }

    /// Whether nothing of it is trained on.
    #[must_use]
    pub const fn is_test(self) -> bool {
        !matches!(self, Self::Train)
    }

    /// Tells the random numbers of the splits apart; views of the same scenes share theirs.
    pub(crate) const fn stream(self) -> u64 {
        match self {
            Self::Train => 0,
            Self::Test | Self::TestOodLeft | Self::TestOodRight => 1,
            Self::TestOod => 2,
        }
    }
}

impl Difficulty {
    /// Every difficulty.
    pub const ALL: [Self; 2] = [Self::Easy, Self::Full];

    /// The name in commands.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Full => "full",
        }
    }

    /// The difficulty of this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|difficulty| difficulty.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_what_they_are() {
        for split in Split::ALL {
            assert_eq!(Split::from_name(split.name()), Some(split));
        }
        for renderer in Renderer::ALL {
            assert_eq!(Renderer::from_name(renderer.name()), Some(renderer));
        }
        for difficulty in Difficulty::ALL {
            assert_eq!(Difficulty::from_name(difficulty.name()), Some(difficulty));
        }
    }
}
