//! Does every bad input get a message that names the place, what was expected and found, and a remedy; and is nothing
//! lost by it? The program is run as a person runs it.

mod configuration;
mod device;
mod disk;
mod model;
mod pictures;
mod rewards;
mod rows;
mod scoring;
