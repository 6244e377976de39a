//! Generates the gRPC code from `proto/` without a `protoc`, and keeps the descriptors for reflection.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let files = ["batch/v1/batch", "speed/v1/speed", "serving/v1/serving"]
        .map(|name| root.join(format!("researchflow/{name}.proto")));
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(&files, [&root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("researchflow.bin");
    std::fs::write(&out, protox::prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        // Written and read by hand: see `row_batch`.
        .extern_path(".researchflow.serving.v1.RowBatch", "crate::RowBatch")
        .compile_fds(descriptors)?;
    Ok(())
}
