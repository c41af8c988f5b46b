package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
)

func TestCommandLine(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		code int
		text string
	}{
		{"help", []string{"--help"}, 0, "Usage:"},
		{"no cloud", []string{"--token", "a.b.c.d"}, 2, "--cloud is needed"},
		{"no credentials", []string{"--cloud", "127.0.0.1"}, 2, "--kubeconfig or --token is needed"},
		{"unknown flag", []string{"--colour"}, 2, "unknown flag"},
		{"argument", []string{"--cloud", "x", "--token", "y", "z"}, 2, `unexpected argument "z"`},
		{"diff without cluster", []string{"--cloud", "x", "--token", "y", "--diff"}, 2, "--diff needs --kubeconfig"},
		{"time scale", []string{"--cloud", "x", "--token", "y", "--time-scale", "0"}, 2, "not positive"},
		{"unknown fault", []string{"--cloud", "x", "--token", "y", "--fault", "fire=1"}, 2, "fault \"fire\" is unknown"},
		{"bad fault", []string{"--cloud", "x", "--token", "y", "--fault", "drop-acks=2"}, 2, "not between 0 and 1"},
		{"bad swap", []string{"--cloud", "x", "--token", "y", "--fault", "swap=often"}, 2, "never, random or always"},
		{"no kubeconfig file", []string{"--cloud", "x", "--kubeconfig", "/nonexistent"}, 1, "read kubeconfig /nonexistent"},
		{"bad token", []string{"--cloud", "127.0.0.1", "--token", "abc"}, 1, "four parts"},
		{"no nodes", []string{"--cloud", "127.0.0.1", "--token", "abc", "--nodes", "0"}, 1, "fleet of 0 nodes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(t.Context(), tc.args, &out, &errs)
			if code != tc.code || !strings.Contains(errs.String(), tc.text) {
				t.Errorf("exit code %d, want %d; text %q, want %q in it", code, tc.code, errs.String(), tc.text)
			}
		})
	}
}

func TestInterruptIsNoError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"--cloud", "127.0.0.1", "--token", "a.b.c.d", "--https-port", "1"}, &out, &errs)
	if code != 0 || !strings.Contains(out.String(), "1 nodes for") || !strings.Contains(out.String(), "violations 0") {
		t.Errorf("exit code %d, output %q, errors %q", code, out.String(), errs.String())
	}
}

func TestFaults(t *testing.T) {
	f, err := parseFaults([]string{
		"drop-acks=0.5", "fail-store=0.25", "delay-acks=3s", "ack-jitter=1s", "clock-skew=-1h", "duplicate-acks=2", "fifo=7",
		"stall-reads=true", "half-open=true", "no-pod-status=true", "swap=random", "swap-answers=1",
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Only = nil
	if f.DropAcks != 0.5 || f.FailStore != 0.25 || f.DelayAcks != 3*time.Second || f.AckJitter != time.Second || f.ClockSkew != -time.Hour ||
		f.DuplicateAcks != 2 || f.FIFO != 7 || !f.StallReads || !f.HalfOpen || !f.NoPodStatus || f.Swap != edgesim.SwapRandom || !f.SwapAnswers {
		t.Errorf("faults are %+v", f)
	}
	names := strings.Split(faultNames(), ", ")
	if len(names) != 12 || !slices.IsSorted(names) {
		t.Errorf("names are %q", names)
	}
}
