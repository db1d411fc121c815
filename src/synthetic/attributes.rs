//! The words for what an object looks like. It draws nothing and counts nothing.

/// An object's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Cube,
    Sphere,
    Cylinder,
    Car,
    Bus,
    Truck,
    Boat,
    Plane,
}

/// An object's colour; its shade depends on the renderer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Color {
    Red,
    Blue,
    Green,
    Yellow,
    Purple,
    Cyan,
    Gray,
    Brown,
}

/// An object's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Small,
    Large,
    Medium,
}

/// What an object is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Material {
    Rubber,
    Metal,
    Glass,
}

impl Shape {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Star => "star",
            Self::Cube => "cube",
            Self::Sphere => "sphere",
            Self::Cylinder => "cylinder",
            Self::Car => "car",
            Self::Bus => "bus",
            Self::Truck => "truck",
            Self::Boat => "boat",
            Self::Plane => "plane",
        }
    }

    pub(crate) const fn plural(self) -> &'static str {
        match self {
            Self::Circle => "circles",
            Self::Square => "squares",
            Self::Triangle => "triangles",
            Self::Star => "stars",
            Self::Cube => "cubes",
            Self::Sphere => "spheres",
            Self::Cylinder => "cylinders",
            Self::Car => "cars",
            Self::Bus => "buses",
            Self::Truck => "trucks",
            Self::Boat => "boats",
            Self::Plane => "planes",
        }
    }
}

impl Color {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Blue => "blue",
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Purple => "purple",
            Self::Cyan => "cyan",
            Self::Gray => "gray",
            Self::Brown => "brown",
        }
    }
}

impl Size {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

impl Material {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rubber => "rubber",
            Self::Metal => "metal",
            Self::Glass => "glass",
        }
    }
}
