//! `perch restore`: a backup becomes the data of a perch that holds nothing yet.

use super::backup::{BRANCHES, DATABASE, FORMAT, KEYS, MANIFEST, Manifest};
use crate::config::{RestoreCommand, data_folder};
use crate::server::lock;
use crate::store::{Options, Store, StoreError};
use anyhow::{Context, bail, ensure};
use flate2::read::GzDecoder;
use std::fs::{self, DirBuilder, File};
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path};

/// Bytes of a manifest.
const MAX_MANIFEST: u64 = 64 * 1024;

/// Restores a backup; tells of its progress. The database comes last: what breaks off before is no perch.
///
/// # Errors
/// Says what is in the way.
pub async fn restore(command: RestoreCommand, told: &mut impl Write) -> anyhow::Result<()> {
    let data = data_folder(command.place.data.as_ref())?;
    let source = File::open(&command.from)
        .with_context(|| format!("can't read the backup {}", command.from.display()))?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data)
        .with_context(|| format!("--data: can't make the data folder {}", data.display()))?;
    let _lock = lock(&data).await?;
    for name in ["perch.sqlite", KEYS, BRANCHES, DATABASE] {
        let at = data.join(name);
        let is_used = match fs::read_dir(&at) {
            Ok(mut entries) => entries.next().is_some(),
            Err(_) => fs::symlink_metadata(&at).is_ok(),
        };
        ensure!(
            !is_used,
            "--data: {} is there already, and is left alone; give --data an empty folder",
            at.display()
        );
    }
    let target = match &command.place.database_url {
        None => None,
        Some(_) => {
            let options = Options { database_url: command.place.database_url.clone(), data: data.clone() };
            let store = Store::open(&options).await.context("--database-url: can't open the database")?;
            ensure!(
                store.is_blank().await?,
                "--database-url: the database holds a perch already, which is left alone; give an empty one"
            );
            Some(store)
        }
    };
    let spooled = data.join(DATABASE);
    let manifest =
        unpack(source, &data, told).with_context(|| format!("can't restore {}", command.from.display()))?;
    let copy = Store::open_sqlite(spooled.clone()).await.context("the backup's database can't be used")?;
    match target {
        None => {
            copy.close().await;
            fs::rename(&spooled, data.join("perch.sqlite"))?;
        }
        Some(store) => {
            store.fill_from(&copy).await.map_err(|error| match error {
                StoreError::Conflict => anyhow::anyhow!("--database-url: the database is not empty any more"),
                other => anyhow::Error::from(other).context("can't fill the database"),
            })?;
            copy.close().await;
            store.close().await;
            fs::remove_file(&spooled)?;
        }
    }
    rustix::fs::syncfs(File::open(&data)?)?;
    writeln!(
        told,
        "restored into {}; start perch on it{}",
        data.display(),
        if manifest.with_keys { "" } else { " (tokens of sessions made before are not valid any more)" }
    )?;
    Ok(())
}

fn unpack(source: File, data: &Path, told: &mut impl Write) -> anyhow::Result<Manifest> {
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(source)));
    archive.set_overwrite(true);
    let mut entries = archive.entries()?;
    let no_backup = "it is no backup of perch's";
    let first = entries.next().context(no_backup)?.context(no_backup)?;
    ensure!(first.path().is_ok_and(|path| path == Path::new(MANIFEST)), no_backup);
    let manifest: Manifest = serde_json::from_reader(first.take(MAX_MANIFEST)).context(no_backup)?;
    ensure!(
        manifest.format == FORMAT,
        "it is of format {}, and this perch knows {FORMAT}; use perch {} or a later one",
        manifest.format,
        manifest.perch
    );
    let (mut files, mut has_database) = (0_u64, false);
    for entry in entries {
        let mut entry = entry.context("the archive is damaged")?;
        let path = entry.path()?.into_owned();
        let mut parts = path.components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(folder)), Some(_)) if folder == BRANCHES => {
                let is_in =
                    entry.unpack_in(data).with_context(|| format!("can't write `{}`", path.display()))?;
                ensure!(is_in, "`{}` leads outside", path.display());
                files += 1;
                if files.is_multiple_of(10_000) {
                    writeln!(told, "{files} files and folders")?;
                }
            }
            (Some(Component::Normal(name)), None) if name == DATABASE || name == KEYS => {
                has_database |= name == DATABASE;
                let mut file =
                    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(data.join(name))?;
                std::io::copy(&mut entry, &mut file).context("the archive is damaged")?;
                file.sync_all()?;
            }
            _ => bail!("it holds `{}`, which no backup does", path.display()),
        }
    }
    ensure!(has_database, "the archive is cut off: it has no database");
    writeln!(told, "{files} files and folders, and the database")?;
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::os::unix::fs::PermissionsExt;

    /// An archive with these entries after a sound manifest: path, link's target, bytes.
    fn archive(entries: &[(&str, Option<&str>, &str)]) -> File {
        let mut tar = tar::Builder::new(GzEncoder::new(tempfile::tempfile().unwrap(), Compression::fast()));
        let manifest = format!(
            r#"{{"format":{FORMAT},"perch":"0","began_at_ms":0,"database":"sqlite","with_keys":false}}"#
        );
        let all = [(MANIFEST, None, manifest.as_str())].into_iter().chain(entries.iter().copied());
        for (path, target, bytes) in all {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o4755);
            // By hand: the library writes no path that leads up.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(bytes.len() as u64);
            if let Some(target) = target {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name(target).unwrap();
            }
            header.set_cksum();
            tar.append(&header, bytes.as_bytes()).unwrap();
        }
        let mut file = tar.into_inner().unwrap().finish().unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    }

    #[test]
    fn an_archive_writes_nowhere_but_where_it_may() {
        let base = tempfile::tempdir().unwrap();
        let outside = base.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let away = outside.to_str().unwrap();
        let tried = |entries: &[(&str, Option<&str>, &str)]| {
            let data = tempfile::tempdir_in(base.path()).unwrap();
            let outcome = unpack(archive(entries), data.path(), &mut std::io::sink());
            (outcome.map(|_| ()).map_err(|error| format!("{error:#}")), data)
        };
        let database = (DATABASE, None, "db");
        let (sound, data) = tried(&[("branches/b/workspace/run", None, "x"), database]);
        sound.unwrap();
        let about = fs::metadata(data.path().join("branches/b/workspace/run")).unwrap();
        assert_eq!(about.permissions().mode() & 0o7777, 0o755, "no set-id bits");
        assert_eq!(fs::metadata(data.path().join(DATABASE)).unwrap().permissions().mode() & 0o777, 0o600);
        for (entries, why) in [
            (&[("branches/../../outside/stolen", None, "x"), database][..], "leads outside"),
            (&[("branches/l", Some(away), ""), ("branches/l/stolen", None, "x"), database], "can't write"),
            (&[("elsewhere/x", None, "x"), database], "no backup does"),
            (&[("/etc/x", None, "x"), database], "no backup does"),
            (&[database, database], "exists"),
            (&[("branches/b/x", None, "x")], "cut off"),
        ] {
            let (outcome, _data) = tried(entries);
            let said = outcome.unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert!(fs::read_dir(&outside).unwrap().next().is_none());
    }
}
