"""unpack.py ARCHIVE DIR: what viewer/ needs of imgui-bundle, laid flat: imgui/, test_engine/, fonts/."""

import pathlib
import re
import sys
import tarfile

TAKE = [  # pattern of a member below the archive's folder, and where it goes
    (r"external/imgui/imgui/(im[a-z_]+\.(?:h|cpp)|LICENSE\.txt)", r"imgui/\1"),
    (r"external/imgui/imgui/backends/(imgui_impl_(?:glfw|opengl3|opengl3_loader)\.(?:h|cpp))", r"imgui/backends/\1"),
    (r"external/imgui/imgui/misc/cpp/(imgui_stdlib\.(?:h|cpp))", r"imgui/\1"),
    (r"external/imgui_test_engine/imgui_test_engine/imgui_test_engine/(.+)", r"test_engine/\1"),
    (r"external/imgui_test_engine/imgui_test_engine/imgui_test_suite/assets/fonts/(NotoSans(?:Mono)?-Regular\.ttf)", r"fonts/\1"),
]


def main(archive, out):
    taken = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            below = member.name.partition("/")[2]
            for pattern, to in TAKE:
                if member.isfile() and re.fullmatch(pattern, below):
                    path = pathlib.Path(out, re.sub(pattern, to, below))
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(tar.extractfile(member).read())
                    taken += 1
    if not pathlib.Path(out, "imgui/imgui.h").is_file() or not pathlib.Path(out, "test_engine/imgui_te_engine.h").is_file():
        sys.exit(f"{archive}: only {taken} of the expected files are in it")


main(*sys.argv[1:])
