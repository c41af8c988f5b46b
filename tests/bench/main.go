package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// settings are the command line.
type settings struct {
	bin, cloudcore, style    string
	jsonFile, profiles       string
	scenarios                []scenario
	creators, concurrency    int
	settle, steady, patience time.Duration
}

// scenario is a number of nodes and of pods.
type scenario struct{ Nodes, Pods int }

func (s scenario) String() string { return fmt.Sprintf("%dx%d", s.Nodes, s.Pods) }

// Configuration styles: what a cloudcore offers beyond the configuration file, which is the same for all.
const (
	styleOurs     = "ours"     // says when it is ready
	styleOriginal = "original" // is ready when its certificate port answers
)

// run is the command; it returns the exit code: 1 if a count missed its budget or a measurement failed, 2 for a wrong call.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 2
	}
	code := 0
	var results []*result
	for _, sc := range s.scenarios {
		r, err := measure(ctx, s, sc, stderr)
		if err != nil {
			fmt.Fprintf(stderr, "bench: scenario %s: %v\n", sc, err)
			code = 1
		}
		if r == nil {
			continue
		}
		r.write(stdout)
		results = append(results, r)
		if r.failed() {
			code = 1
		}
		if ctx.Err() != nil {
			break
		}
	}
	if s.jsonFile != "" {
		if err := writeJSON(s.jsonFile, results); err != nil {
			fmt.Fprintf(stderr, "bench: %v\n", err)
			return 1
		}
	}
	return code
}

func parse(args []string, stderr io.Writer) (*settings, error) {
	s := new(settings)
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&s.bin, "bin", "", "folder with localcluster and cloudcore")
	f.StringVar(&s.cloudcore, "cloudcore", "", "cloudcore to measure, instead of the one in -bin")
	f.StringVar(&s.style, "config-style", styleOurs, "kind of the cloudcore: ours or original")
	f.StringVar(&s.jsonFile, "json", "", "file to write all numbers to")
	f.StringVar(&s.profiles, "profiles", "", "folder to write processor and heap profiles of cloudcore to")
	scenarios := f.String("scenario", "500x1000,2000x4000", "NODESxPODS, separated by commas")
	f.IntVar(&s.creators, "creators", 8, "how many pods are created at a time")
	f.IntVar(&s.concurrency, "joins", 32, "how many nodes join at a time")
	f.DurationVar(&s.settle, "settle", 40*time.Second, "pause before memory is measured")
	f.DurationVar(&s.steady, "steady", time.Minute, "time over which lease renewals are measured")
	f.DurationVar(&s.patience, "patience", 5*time.Minute, "longest wait for each step")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case s.bin == "":
		return nil, errors.New("-bin is needed")
	case s.style != styleOurs && s.style != styleOriginal:
		return nil, fmt.Errorf("-config-style %q is neither %s nor %s", s.style, styleOurs, styleOriginal)
	case s.creators < 1 || s.concurrency < 1 || s.steady <= 0 || s.patience <= 0:
		return nil, errors.New("-creators, -joins, -steady and -patience must be positive")
	}
	if s.cloudcore == "" {
		s.cloudcore = filepath.Join(s.bin, "cloudcore")
	}
	var err error
	s.scenarios, err = parseScenarios(*scenarios)
	return s, err
}

func parseScenarios(text string) ([]scenario, error) {
	var out []scenario
	for part := range strings.SplitSeq(text, ",") {
		nodes, pods, ok := strings.Cut(part, "x")
		n, err1 := strconv.Atoi(nodes)
		p, err2 := strconv.Atoi(pods)
		if !ok || err1 != nil || err2 != nil || n < 1 || p < 1 {
			return nil, fmt.Errorf("scenario %q is not NODESxPODS", part)
		}
		out = append(out, scenario{n, p})
	}
	return out, nil
}

func writeJSON(file string, results []*result) error {
	data, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}
