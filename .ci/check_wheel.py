"""Loads the benchmark table and the catalogue from a built wheel, not from the checkout."""

import subprocess
import sys
import tempfile
import zipfile

wheel = sys.argv[1]
with tempfile.TemporaryDirectory() as folder:
    zipfile.ZipFile(wheel).extractall(folder)
    check = f"""
import knowledge
from knowledge import methods, table
assert knowledge.__file__.startswith({folder!r}), knowledge.__file__
assert table.shipped() and methods.all_methods()
print(len(table.shipped()), "runs,", len(methods.all_methods()), "methods in the wheel")
"""
    subprocess.run([sys.executable, "-c", check], cwd=folder, env={"PYTHONPATH": folder, "PATH": ""}, check=True)
