"""Loads the benchmark table and the catalogue from a built wheel, not from the checkout."""

import subprocess
import sys
import tempfile
import zipfile

wheel = sys.argv[1]
with tempfile.TemporaryDirectory() as folder:
    zipfile.ZipFile(wheel).extractall(folder)
    check = (
        "import knowledge.table as table, knowledge.methods as methods, knowledge;"
        "assert knowledge.__file__.startswith(r'%s'), knowledge.__file__;"
        "print(len(table.shipped()), 'runs,', len(methods.all_methods()), 'methods in the wheel');"
        "assert table.shipped() and methods.all_methods()" % folder
    )
    subprocess.run([sys.executable, "-c", check], cwd=folder, env={"PYTHONPATH": folder, "PATH": ""}, check=True)
