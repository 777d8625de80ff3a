//! Writes sound examples of what each target reads into `corpus/<target>/`, for the fuzzer to begin with.

use std::path::Path;

use windlass::engine::fuzzing::DECODERS;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for decoder in DECODERS {
        let directory = corpus.join(decoder.name);
        std::fs::create_dir_all(&directory)?;
        for (number, example) in (decoder.examples)().iter().enumerate() {
            std::fs::write(directory.join(format!("example-{number}")), example)?;
        }
    }
    println!("{} has examples for {} targets", corpus.display(), DECODERS.len());
    Ok(())
}
