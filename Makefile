# Needs Go and git; the tests also a C compiler (for the race detector), Node.js with npm, Chromium
# and Prometheus (see e2e/setup.sh). Every other tool is pinned in internal/tools and internal/lint and built on first
# use.

TOOL = go tool -modfile=internal/tools/go.mod
# A path from the root works in every module's directory.
LINTER = go tool -modfile=$(CURDIR)/internal/lint/go.mod golangci-lint
# The modules that are linted, formatted and tested; the programs and tests of e2e and bench stay out of users' builds.
MODULES = $(patsubst %/,%,$(dir $(wildcard go.mod e2e/go.mod bench/go.mod)))
# What users build the components into: with the oldest Go that go.mod asks for, and on Windows.
COMPONENTS = ./internal/... ./receiver/... ./exporter/...
OLDEST_GO = go$(shell sed -n 's/^go //p' go.mod)
FUZZTIME ?= 30s

.DEFAULT_GOAL := build
.PHONY: build run demo test test-scale e2e lint fmt generate fuzz bench check chlog-new large clean

# Build the collector and the local Librato into _build.
build: _build/go.mod
	cd _build && CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags='-s -w' -o otelcol-segment .
	CGO_ENABLED=0 go build -trimpath -o _build/ ./cmd/librato-local

# The collector's sources are generated again only when the manifest or the dependencies change; an edit costs seconds.
_build/go.mod: builder-config.yaml go.mod go.sum internal/tools/go.mod
	$(TOOL) builder --config builder-config.yaml --skip-compilation
	@touch $@

# Run the collector with config.yaml and a local Librato (or, with LIBRATO_EMAIL and LIBRATO_TOKEN set, Librato itself).
run: build
	@CGO_ENABLED=0 go build -o _build/run ./scripts/run
	@_build/run

# Do the same, with events from four web servers that the real Node SDK makes up; the SDK comes from npm.
demo: build
	cd e2e/sdks && npm ci --ignore-scripts --no-progress
	@CGO_ENABLED=0 go build -o _build/run ./scripts/run
	@_build/run -demo

# Run every test: unit tests with the race detector, under which allocations cannot be counted, so those without it; then
# the end-to-end tests.
test:
	go test -race ./...
	go test -run Alloc ./...
	$(MAKE) e2e

# Build the collector and drive it from outside, with the real Segment SDKs among others. E2EFLAGS go to `go test`. In CI no test
# may be skipped, and those of several tiers need the larger collector.
e2e: build $(if $(filter true,$(CI)),large)
	sh e2e/setup.sh
	cd e2e && go test -timeout 30m $(E2EFLAGS) ./...

# Run the tests of the whole process that take long, or that ask how long something takes: on a machine with nothing else to do.
test-scale: build
	cd e2e && go test -timeout 60m -v -run 'Hostile|Killed' -scale -crash.duration 10m $(E2EFLAGS) .

# Report what the linters find.
lint:
	@for dir in $(MODULES); do echo "lint $$dir"; (cd $$dir && $(LINTER) run ./...) || exit 1; done

# Format the Go files.
fmt:
	@for dir in $(MODULES); do (cd $$dir && $(LINTER) fmt) || exit 1; done

# Write the generated files again: metadata, documentation.md, lifecycle tests.
generate:
	go generate ./...

# Fuzz each target for FUZZTIME; new findings land in its testdata/fuzz.
fuzz:
	@for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

# Run the benchmarks of the packages, then those of the whole process; BENCHFLAGS go to the latter.
bench: build
	go test -run '^$$' -bench . -benchmem ./...
	sh bench/run.sh $(BENCHFLAGS)

# What CI runs: generated files are up to date, no lint, all tests pass.
check:
	go vet ./...
	GOOS=windows go vet $(COMPONENTS)
	GOTOOLCHAIN=$(OLDEST_GO) go vet $(COMPONENTS)
	@for dir in $(MODULES) internal/tools internal/lint; do (cd $$dir && go mod tidy -diff) || exit 1; done
	sh scripts/check-generated.sh
	$(TOOL) chloggen validate --config .chloggen/config.yaml
	$(MAKE) lint
	$(MAKE) test

# Start a changelog entry, named after the branch or NAME.
chlog-new:
	$(TOOL) chloggen new --config .chloggen/config.yaml --filename "$(or $(NAME),$$(git branch --show-current))"

# Build the larger collector of examples/builder-config-large.yaml, with which e2e validates the examples of several tiers.
large:
	$(TOOL) builder --config examples/builder-config-large.yaml

# Remove what was built, and the state of `make run`.
clean:
	rm -rf _build _build-large .run e2e/sdks/node_modules
