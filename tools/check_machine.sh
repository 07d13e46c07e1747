#!/bin/sh
# check_machine.sh PYTHON: if `make` cannot run on this machine, print one sentence that says what
# is missing, and fail.
python=$1

lacks() {
  echo "error: $*" >&2
  exit 1
}

system="$(uname -s) $(uname -m)"
[ "$system" = 'Linux x86_64' ] ||
  lacks "the ROS 2 wheels exist for Linux x86_64 only, but this is $system:" \
    "build with colcon in a ROS 2 workspace instead (see README.md)."

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
  lacks "cannot run Python as '$python': sudo apt install python3 python3-venv python3-dev"
case $version in
  3.10 | 3.11 | 3.12 | 3.13) ;;
  *) lacks "the ROS 2 wheels need Python 3.10 to 3.13, but '$python' is $version:" \
    "sudo apt install python3.12 python3.12-venv python3.12-dev, then make PYTHON=python3.12" ;;
esac
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  lacks "Python $version has no venv module: sudo apt install python$version-venv"
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -f "$headers/Python.h" ] ||
  lacks "Python $version has no C headers: sudo apt install python$version-dev"

for compiler in "${CC:-cc}" "${CXX:-c++}"; do
  command -v "${compiler%% *}" >/dev/null ||  # the value may be "ccache c++"
    lacks "there is no compiler '$compiler': sudo apt install build-essential"
done
echo 'int main() {}' | ${CXX:-c++} -std=c++17 -x c++ -fsyntax-only - 2>/dev/null ||
  lacks "'${CXX:-c++}' does not compile C++17: sudo apt install build-essential"

cmake=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*\([0-9]*\.[0-9]*\).*/\1/p')
[ -n "$cmake" ] || lacks "there is no cmake: sudo apt install cmake"
[ "${cmake%.*}" -gt 3 ] || [ "${cmake%.*}" -eq 3 -a "${cmake#*.}" -ge 21 ] ||
  lacks "cmake 3.21 or newer is needed, but this is $cmake:" \
    "sudo apt install cmake, or pip install cmake if the version of apt is older"
