# Everything is built in .venv. This needs Python 3.10 to 3.13, a C++ compiler and cmake. See
# `make help`.
PYTHON ?= python3
ARGS ?=
# Number of tests that run in parallel. 0: all in one process, for a debugger.
JOBS ?= $(shell n=$$(nproc); echo $$((n < 8 ? n : 8)))

VENV := .venv
RUN := $(VENV)/bin/python
BUILD := $(VENV)/build
OLDEST := $(VENV)/oldest
PYTEST := $(RUN) -m pytest -n $(JOBS) --dist loadgroup
OLDEST_OPEN_CLIP := $(shell sed -n 's/^open_clip_torch>=//p' requirements/runtime.txt)
PYBULLET := $(shell sed -n "s/.*'\(pybullet[^']*\)'.*/\1/p" setup.py)
INSTALLED_FILES := $(shell find cliptrase_ros config launch msg scripts srv -type f ! -name '*.pyc')

# A sourced ROS workspace or another virtual environment must not influence this one. The ROS wheels
# set the last variable for their child processes. If it came from another environment, this one
# would not find its own libraries.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV CMAKE_PREFIX_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)

.PHONY: help setup demo test test-quick test-oldest lint hooks clean

# If two runs use one checkout, the second waits until the first has finished its installation.
define made
	@flock -n .make.lock true || echo 'another make is installing in this checkout: waiting for it' >&2
	+@flock -o .make.lock $(MAKE) --no-print-directory $(1)
endef

help: ## show this list (demo and tests accept ARGS: make test ARGS='-k vocabulary')
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## run the demo world, the node and the scores
	$(call made,installed with-pybullet)
	$(RUN) -m cliptrase_ros.ros.demo $(ARGS)

test: ## run the tests
	$(call made,installed with-pybullet-wheel)
	$(PYTEST) $(ARGS)

test-quick: ## run only the tests that start no node, no Ray and no benchmark
	$(call made,installed)
	$(PYTEST) -m 'not slow' $(ARGS)

test-oldest: ## run the engine's tests on the oldest open_clip
	$(call made,installed with-oldest)
	PYTHONPATH="$(CURDIR)/$(OLDEST)" $(PYTEST) \
	  test/model/test_visual.py test/model/test_backbone.py test/test_golden.py test/methods/test_methods.py test/model/test_text.py $(ARGS)

lint: ## check style, types and imports between modules
	$(call made,dependencies)
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(VENV)/bin/lint-imports
	$(RUN) -m mypy

hooks: ## make git run these checks before each commit
	$(call made,dependencies)
	$(RUN) -m pre_commit install

setup: ## install only; then: . .venv/bin/activate
	$(call made,installed)

clean: ## remove everything that make created
	@flock -o .make.lock rm -rf $(VENV) .coverage* .mypy_cache .import_linter_cache

.PHONY: dependencies installed with-pybullet with-pybullet-wheel with-oldest
dependencies: $(VENV)/dependencies; @:
installed: $(VENV)/installed; @:
with-pybullet: $(VENV)/pybullet; @:
with-oldest: $(OLDEST)/installed; @:
with-pybullet-wheel: $(VENV)/dependencies
	@test -f $(VENV)/pybullet || $(RUN) -c 'import pybullet' 2>/dev/null || \
	  $(RUN) -m pip install --only-binary :all: '$(PYBULLET)' || \
	  echo 'warning: no PyBullet wheel for this Python: the tests of the demo world are skipped' >&2

# Each of the four stamps below is written last. So after an interrupted run, the next run repeats
# the step.

# Without the stamp the environment is new or only half installed: start with an empty one.
$(VENV)/dependencies: setup.py pyproject.toml package.xml requirements/runtime.txt \
  requirements/ros-jazzy.txt
	@tools/check_machine.sh '$(PYTHON)'
	test -f $@ || $(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install -r requirements/ros-jazzy.txt '.[test,make,view]'
	rm -rf build/lib build/bdist.* *.egg-info
	@$(RUN) -c 'import cv2' || { echo "error: OpenCV's wheel lacks system libraries:" \
	  "sudo apt install libgl1 libglib2.0-0" >&2; exit 1; }
	touch $@

$(VENV)/installed: $(VENV)/dependencies CMakeLists.txt tools/ros_wheels.cmake $(INSTALLED_FILES)
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake -S . -B $(BUILD) --log-level=WARNING \
	  -DCMAKE_INSTALL_PREFIX="$(CURDIR)/$(VENV)" -DBUILD_TESTING=OFF \
	  -DPython3_EXECUTABLE="$(CURDIR)/$(RUN)" \
	  -DCMAKE_PROJECT_INCLUDE="$(CURDIR)/tools/ros_wheels.cmake"
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" MAKEFLAGS=--no-print-directory \
	  cmake --build $(BUILD) --parallel "$$(nproc)"
	cmake --install $(BUILD) >$(BUILD)/install.log
	@# pip owns the metadata. With a second copy, pip would uninstall the wrong one.
	rm -rf $(VENV)/lib/python*/site-packages/cliptrase_ros-*.egg-info
	touch $@

# There are wheels for Python 3.10 and 3.11. For other versions pip compiles it: some minutes.
$(VENV)/pybullet: $(VENV)/dependencies
	$(RUN) -m pip install '$(PYBULLET)'
	touch $@

$(OLDEST)/installed: $(VENV)/dependencies
	rm -rf $(OLDEST)
	$(RUN) -m pip install --no-deps --target $(OLDEST) open_clip_torch==$(OLDEST_OPEN_CLIP)
	touch $@
