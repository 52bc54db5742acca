__version__ = "2.13.0+cpu"
debug = False
cuda = None
git_version = "stand-in"
hip = None
