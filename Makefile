# Targets of cloudcore. Every target is one visible command; `make help` lists them.
SHELL := /bin/bash
BIN := bin
VERSION ?= v0.1.0
COMMIT ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X k8s.io/component-base/version.gitVersion=$(VERSION) -X k8s.io/component-base/version.gitCommit=$(COMMIT)
GO ?= go
# Packages of the root module that people write; generated code is built, not linted.
PACKAGES = $$($(GO) list ./... | grep -v /pkg/generated/)
TOOL = $$($(GO) -C hack/tools tool -n $(1))

.DEFAULT_GOAL := help
.PHONY: help build cloudcore edgesim localcluster run test unit integration bench verify vulncheck generate fuzz clean

help: ## Show this help.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: cloudcore edgesim localcluster ## Build cloudcore, edgesim and localcluster into bin/ (the first build of localcluster takes minutes).

cloudcore: ## Build bin/cloudcore.
	$(GO) build -trimpath -ldflags "$(LDFLAGS)" -o $(BIN)/cloudcore ./cmd/cloudcore

edgesim: ## Build bin/edgesim, the simulated edge nodes.
	$(GO) -C tests build -trimpath -o ../$(BIN)/edgesim ./edgesim/cmd

localcluster: ## Build bin/localcluster, a control plane in one command, and bin/kubectl.
	hack/localcluster/build.sh $(BIN)/localcluster

run: build ## Run a control plane, cloudcore and three simulated edges with a Deployment until Ctrl-C; ONCE=1 ends by itself.
	hack/run.sh

test: unit integration ## Run all tests with the race detector.

unit: ## Run the tests that need no cluster.
	$(GO) test -race -timeout 20m ./...
	$(GO) test -timeout 10m ./pkg/cloudhub/delivery
	$(GO) -C tests test -race -timeout 20m ./edgesim/... ./bench/...
	$(GO) -C hack/localcluster test -timeout 10m ./internal/...
	$(GO) -C hack/tools test -timeout 10m ./crdlistkeys/...

integration: localcluster ## Run the tests against a real kube-apiserver.
	LOCALCLUSTER=$(CURDIR)/$(BIN)/localcluster $(GO) -C tests test -race -timeout 20m -v ./integration/...

bench: build ## Measure delivery and memory with a real kube-apiserver and print the table.
	$(GO) -C tests run ./bench -bin $(CURDIR)/$(BIN)

verify: ## Check format, vet, static analysis, generated code and import directions.
	@test -z "$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l | tee /dev/stderr)"
	$(GO) vet ./...
	$(GO) -C tests vet ./...
	$(GO) -C hack/localcluster vet ./...
	$(call TOOL,staticcheck) $(PACKAGES)
	hack/generate.sh --check
	$(GO) test -run TestImportDirections ./cmd/cloudcore/app

vulncheck: ## Look for known vulnerabilities (needs the vulnerability database from the network).
	$(call TOOL,govulncheck) ./...

generate: ## Generate clients, deepcopy functions and CRD manifests.
	hack/generate.sh

FUZZTIME ?= 30s
fuzz: ## Run every fuzz target for FUZZTIME.
	@set -e; for p in $$(grep -rl --include='*_test.go' '^func Fuzz' pkg cmd | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -rhoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' $$p | awk '{print $$2}'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) ./$$p; done; done

clean: ## Remove what was built and the data of make run.
	rm -rf $(BIN) .run
