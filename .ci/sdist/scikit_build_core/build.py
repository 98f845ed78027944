"""pip asks an archive's build backend for its metadata before it hands the archive over, even when
nothing is to be built. This one answers from PKG-INFO, so that no backend is downloaded and none of
the archive's code is run."""

import email
import pathlib
import shutil


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    fields = email.message_from_string(pathlib.Path("PKG-INFO").read_text(encoding="utf-8"))
    name = f"{fields['Name'].replace('-', '_')}-{fields['Version']}.dist-info"  # pip holds it to that
    folder = pathlib.Path(metadata_directory, name)
    folder.mkdir()
    shutil.copyfile("PKG-INFO", folder / "METADATA")
    return name
