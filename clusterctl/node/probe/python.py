"""The interpreter that will train: which one it is, and what is installed there. Nothing is imported."""

import os
import re
import sys

from ..shared.files import listing, read, which

PYTHON_TIMEOUT = 8.0
PACKAGES = (
    "torch", "deepspeed", "transformers", "datasets", "accelerate", "tokenizers", "numpy", "pydantic",
    "triton", "flash-attn", "peft", "bitsandbytes",
)  # fmt: skip
PREFIXES = ("nvidia-nccl-",)
PLUGIN_PLACES = (
    "/opt/amazon/ofi-nccl/lib",
    "/opt/aws-ofi-nccl/lib",
    "/usr/local/lib",
    "/usr/lib/x86_64-linux-gnu",
)
NOT_STANDARD = {"__pycache__", "sitecustomize", "usercustomize", "site-packages", "dist-packages", "test"}
"""What lies beside the standard library and is no part of it, or is nobody's to import."""
ACTIVATED = "python3 of the activated PATH"
ASK = (
    "import sys,json;print(json.dumps([sys.executable,'.'.join(map(str,sys.version_info[:3])),"
    "[p for p in sys.path if p]]))"
)


def python(request, environ):
    """What is known about the training interpreter that the request names, or about the usual one."""
    found = _training_python(request, environ)
    found["python"]["nccl_first"] = first_nccl(environ)
    found["python"]["net_plugin"] = net_plugin(environ)
    found["python"]["shadows"] = shadows(environ)
    return found


def _training_python(request, environ):
    wanted = request.get("python", "")
    if wanted:
        return {"python": dict(describe(wanted, environ), requested=wanted)}
    if request.get("activation"):
        return {"python": dict(_activated(request["activation"], environ), requested=ACTIVATED)}
    here = request.get("controller_python", "")
    if here and os.access(here, os.X_OK):
        found = describe(here, environ)
        if "torch" in found["packages"]:
            return {"python": dict(found, requested="%s, as on the controlling machine" % here)}
    usual = [each for each in ("python3", "python") if which(each, environ.get("PATH", ""))]
    described = [describe(each, environ) for each in usual[:1]]
    if usual[1:] and "torch" not in described[0]["packages"]:
        described.append(describe(usual[1], environ))
    for found in described:
        if "torch" in found["packages"]:
            return {"python": dict(found, requested="python3 of the login PATH")}
    found = described[0] if described else _nothing("no python3 and no python on PATH")
    return {"python": dict(found, requested="python3 of the login PATH")}


def _activated(activation, environ):
    """The first python of the activated PATH; none where the line failed: any other would not be meant."""
    if activation["error"]:
        return _nothing("the activation line failed")
    found = (
        which(name, directory)
        for directory in environ.get("PATH", "").split(":")
        for name in ("python3", "python")
    )
    path = next(filter(None, found), "")
    return describe(path, environ) if path else _nothing("no python3 and no python on the activated PATH")


def describe(name, environ):
    """Facts about one interpreter, by path or by name on PATH."""
    path = os.path.expanduser(name) if "/" in name else which(name, environ.get("PATH", ""))
    if not path:
        return _nothing("%s is not on PATH" % name)
    if not os.path.isfile(path):
        return _nothing("%s does not exist" % path)
    if not os.access(path, os.X_OK):
        return _nothing("%s is not executable" % path)
    steered = environ.get("PYTHONPATH") or environ.get("PYTHONHOME")
    known = None if steered else closed_environment(path, environ)
    if known is None:
        known, error = _run(path, environ)
        if error:
            return dict(_nothing(error), executable=path)
    executable, version, directories = known
    packages = installed(directories)
    torch = _torch(directories)
    if "version" in torch:
        packages["torch"] = torch.pop("version")
    return dict(torch, executable=executable, version=version, packages=packages, error="")


def closed_environment(path, environ):
    """(executable, version, site directories) of a venv or conda environment, read from its files.

    None where only the interpreter itself knows: system pythons, shims, venvs that admit system packages.
    """
    path = os.path.abspath(path)
    prefix = os.path.dirname(os.path.dirname(path))
    user_site: list[str] = []
    settings = {
        key.strip().lower(): value.strip()
        for key, equals, value in (line.partition("=") for line in read(prefix + "/pyvenv.cfg").splitlines())
        if equals
    }
    version = settings.get("version") or settings.get("version_info", "")
    if settings.get("include-system-site-packages", "false").lower() == "true":
        return None
    if not settings:
        versions = [
            re.fullmatch(r"python-(\d+\.\d+\.\d+)-.*\.json", name) for name in listing(prefix + "/conda-meta")
        ]
        version = next((match.group(1) for match in versions if match), "")
        user_site = _user_site(version, environ)
    digits = re.match(r"\d+\.\d+\.\d+", version)
    if not digits:
        return None
    minor = ".".join(digits.group(0).split(".")[:2])
    directories = [
        "%s/%s/python%s/site-packages" % (prefix, lib, minor)
        for lib in ("lib", "lib64")
        if not os.path.islink("%s/%s" % (prefix, lib))
    ]
    directories = [directory for directory in directories if os.path.isdir(directory)]
    return (path, digits.group(0), user_site + directories) if directories else None


def _user_site(version, environ):
    """Where `pip install --user` puts packages: a conda environment, unlike a venv, takes them first."""
    base = environ.get("PYTHONUSERBASE") or environ.get("HOME", "") + "/.local"
    path = "%s/lib/python%s/site-packages" % (base, ".".join(version.split(".")[:2]))
    return [path] if os.path.isdir(path) and not environ.get("PYTHONNOUSERSITE") else []


def _run(path, environ):
    import json
    import subprocess  # here: it costs as much as the rest of this file

    try:
        child = subprocess.run(
            [os.path.abspath(path), "-c", ASK],
            cwd="/",  # the current folder is part of its path, and a json.py of the user's may lie at home
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=PYTHON_TIMEOUT,
            env=environ,
        )
    except subprocess.TimeoutExpired:
        return None, "%s did not start within %g s" % (path, PYTHON_TIMEOUT)
    except OSError as error:
        return None, "%s does not start: %s" % (path, error.strerror)
    try:
        executable, version, directories = json.loads(child.stdout.decode().strip().splitlines()[-1])
    except (ValueError, IndexError):
        return None, "%s does not start%s: %s" % (path, _steered(environ), _complaint(child))
    return (executable or path, version, directories), ""


def _steered(environ):
    home = environ.get("PYTHONHOME")
    return " with PYTHONHOME=%s" % home if home else ""


def _complaint(child):
    """The last line that says something: a fatal error of the interpreter's ends with its threads."""
    lines = [line.strip() for line in child.stderr.decode("utf-8", "replace").splitlines()]
    said = [line for line in lines if line and not line.startswith(("<no Python frame>", "Current thread"))]
    return said[-1] if said else "exit code %d" % child.returncode


def installed(directories):
    """Version of each distribution of interest; the first directory that has it wins, as for import."""
    found: dict[str, str] = {}
    for directory in directories:
        for entry in listing(directory):
            stem, _, ending = entry.rpartition(".")
            if ending in ("dist-info", "egg-info"):
                name, _, version = stem.partition("-")
                name = re.sub(r"[-_.]+", "-", name).lower()
                if name in PACKAGES or name.startswith(PREFIXES):
                    found.setdefault(name, version.split("-py")[0])
    return found


def _torch(directories):
    """What torch says of itself in torch/version.py; its metadata may be left over from another install.

    ``torch_cuda`` is the CUDA it was built for, "" for a CPU build.
    """
    for directory in directories:
        text = read(directory + "/torch/version.py")
        if text:
            said = dict(re.findall(r"^(\w+)\b[^=\n]*=\s*'([^'\n]*)'", text, re.MULTILINE))
            found = {
                "torch_cuda": said.get("cuda", ""),
                "torch_hip": said.get("hip", ""),
                "torch_git": said.get("git_version"),
            }
            return dict(found, version=said["__version__"]) if "__version__" in said else found
    return {}


def first_nccl(environ):
    """The libnccl.so.2 that the loader finds before any that a wheel brings, with its links resolved."""
    preloaded = re.split(r"[:\s]+", environ.get("LD_PRELOAD", ""))
    places = [path for path in preloaded if "libnccl" in os.path.basename(path)]
    places += [each + "/libnccl.so.2" for each in environ.get("LD_LIBRARY_PATH", "").split(":") if each]
    found = next((path for path in places if os.path.exists(path)), "")
    return os.path.realpath(found) if found else ""


def net_plugin(environ):
    """libnccl-net.so, as AWS's and others' plugins call it, where the loader or their installers put it."""
    places = [each for each in environ.get("LD_LIBRARY_PATH", "").split(":") if each] + list(PLUGIN_PLACES)
    paths = ("%s/%s" % (place, name) for place in places for name in ("libnccl-net.so", "libnccl-net-ofi.so"))
    return next((path for path in paths if os.path.exists(path)), "")


def shadows(environ):
    """Files that PYTHONPATH puts before modules of the standard library, as this interpreter has them."""
    places = [each for each in environ.get("PYTHONPATH", "").split(":") if each]
    if not places:
        return []
    own = os.path.dirname(os.__file__)
    standard = {entry.partition(".")[0] for entry in listing(own)}.union(
        sys.builtin_module_names
    ) - NOT_STANDARD
    found = []
    for place in places:
        if os.path.realpath(place) == os.path.realpath(own):
            continue
        for entry in sorted(listing(place)):
            path = "%s/%s" % (place.rstrip("/"), entry)
            stem, _, ending = entry.partition(".")
            if stem in standard and (ending == "py" or os.path.isfile(path + "/__init__.py")):
                found.append(path)
    return found[:5]


def compilers(executable, environ):
    """Compilers that operators built at first use would need, as paths."""
    near = os.path.dirname(executable) if executable else ""
    path = ":".join(each for each in (environ.get("PATH", ""), near, "/usr/local/cuda/bin") if each)
    toolkits = [name for name in listing("/usr/local") if name.startswith("cuda-")]
    path = ":".join([path, *("/usr/local/%s/bin" % name for name in toolkits)])
    return [found for found in (which(name, path) for name in ("g++", "nvcc", "ninja")) if found]


def _nothing(error):
    return {"executable": "", "version": "", "packages": {}, "error": error}
