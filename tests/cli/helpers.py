"""Running the command line, in this process and in one of its own."""

import subprocess
import sys



class Result:
    def __init__(self, code, out, err):
        self.code = code
        self.out = out
        self.err = err

    @property
    def error(self):
        """The one line that an error is."""
        assert self.err.startswith("askonce: "), self.err
        assert self.err.count("\n") == 1
        return self.err


def in_process(*code, cwd, stdin=""):
    """Run Python code in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(code)],
        capture_output=True,
        text=True,
        cwd=cwd,
        input=stdin,
        timeout=120,
    )
    return Result(done.returncode, done.stdout, done.stderr)
