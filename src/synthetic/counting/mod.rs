//! Visual counting: scenes of objects and questions that count, add and subtract. It knows neither files nor other
//! families.

mod flat;
mod mistake;
mod question;
mod reasoning;
mod scene;
mod solids;
mod vehicles;

use rand_chacha::ChaCha8Rng;
use tiny_skia::Pixmap;

use super::drawn::{Drawn, Statement, Wording};
use super::family::{Difficulty, Renderer, Split};
use question::{Question, Step};
use scene::{Scene, Vocabulary, grid_for};

/// A cell of the grid needs this many pixels for its shapes to be told apart.
const SMALLEST_CELL: u32 = 14;

/// Fewest pixels per side for this many objects.
pub(super) const fn smallest_side(max_objects: usize) -> u32 {
    let objects = if max_objects > 64 { 64 } else { max_objects };
    grid_for(objects) as u32 * SMALLEST_CELL
}

/// A scene and a question about it.
struct Counting {
    scene: Scene,
    question: Question,
    vocabulary: Vocabulary,
    renderer: Renderer,
    split: Split,
    difficulty: Difficulty,
}

/// Draws an example that belongs to the split.
pub(super) fn draw(
    rng: &mut ChaCha8Rng,
    split: Split,
    difficulty: Difficulty,
    (renderer, max_objects): (Renderer, usize),
) -> Box<dyn Drawn> {
    let vocabulary = Vocabulary::of(renderer, split, difficulty);
    let scene = Scene::draw(rng, split, vocabulary, max_objects);
    let question = Question::draw(rng, &scene.objects, vocabulary, (renderer, difficulty));
    Box::new(Counting {
        scene,
        question,
        vocabulary,
        renderer,
        split,
        difficulty,
    })
}

impl Counting {
    fn reason(&self, seen: (&[scene::Object], usize), wording: Wording) -> String {
        if self.renderer == Renderer::Grid && wording == Wording::Row {
            return reasoning::cell_by_cell(&self.question, seen, self.scene.grid);
        }
        reasoning::reasoning(&self.question, seen, self.difficulty, wording)
    }
}

impl Drawn for Counting {
    fn problem(&self) -> String {
        self.question.text()
    }

    fn answer(&self) -> String {
        self.question.answer(&self.scene.objects).to_string()
    }

    fn reasoning(&self) -> String {
        let (objects, question) = (self.scene.objects.as_slice(), &self.question);
        let seen = (objects, question.answer(objects));
        self.reason(seen, Wording::Row)
    }

    fn naming(&self) -> (String, String) {
        let said = self.reasoning();
        let seen = said.split_once(':').map_or(said.as_str(), |(seen, _)| seen);
        let task = match self.renderer {
            Renderer::Grid => "Name the colors row by row.",
            Renderer::Flat | Renderer::Solid => "Name the objects row by row.",
        };
        (task.to_owned(), seen.to_owned())
    }

    fn level(&self) -> usize {
        self.question.steps.len() + 1
    }

    fn kind(&self) -> String {
        match self.question.steps.as_slice() {
            [] => "count",
            [Step::Subtract(_)] => "subtract",
            [Step::Add(..)] => "add",
            _ => "multi-step",
        }
        .into()
    }

    fn fingerprint(&self) -> u64 {
        self.scene.fingerprint()
    }

    fn pictures(&self, size: u32) -> Vec<(&'static str, Pixmap)> {
        let picture = match (self.renderer, self.split) {
            (Renderer::Flat | Renderer::Grid, split) => flat::render(&self.scene, split, size),
            (Renderer::Solid, Split::TestOod) => vehicles::render(&self.scene, size),
            (Renderer::Solid, _) => solids::render(&self.scene, size),
        };
        vec![("", picture)]
    }

    fn statement(&self, rng: &mut ChaCha8Rng, right: bool, wording: Wording) -> Statement {
        let (objects, question) = (self.scene.objects.as_slice(), &self.question);
        let (seen, answer) = match (right, self.renderer, wording) {
            (true, ..) => (objects.to_vec(), question.answer(objects)),
            (false, Renderer::Grid, _) => {
                let seen = mistake::misread(rng, question, &self.scene, self.vocabulary);
                let answer = question.answer(&seen);
                (seen, answer)
            }
            (false, Renderer::Flat, Wording::Row) => {
                let seen = mistake::misperceive(rng, question, objects, self.vocabulary);
                let answer = question.answer(&seen);
                (seen, answer)
            }
            _ => mistake::mistaken(rng, question, objects, self.vocabulary),
        };
        Statement {
            reasoning: self.reason((&seen, answer), wording),
            answer: answer.to_string(),
        }
    }
}
