//! Writes what the fuzz targets begin with: a folder for each target, a file for each seed. Each holds already.

use std::{env, fs, io, path::PathBuf};

#[path = "../tests/it/anything.rs"]
mod anything;
#[path = "../tests/it/seeds.rs"]
mod seeds;

fn main() -> io::Result<()> {
    let folder = env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .ok_or(io::ErrorKind::InvalidInput)?;
    for (target, name, data) in seeds::seeds() {
        anything::check(target, &data);
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), data)?;
    }
    Ok(())
}
