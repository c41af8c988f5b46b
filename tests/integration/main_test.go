// Package integration tests cloudcore as a whole: the real binary against a real kube-apiserver, with simulated edges.
//
// The environment variable LOCALCLUSTER names the localcluster binary, ../../bin/localcluster by default.
package integration

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/tests/integration/harness"
)

// env is what all tests share; TestMain sets it.
var env *harness.Environment

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	klog.LogToStderr(false) // of the clients in this process; the failures of a test tell what happened
	dir, err := os.MkdirTemp("", "cloudcore-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	env, err = harness.Boot(context.Background(), harness.Settings{
		LocalCluster: cmp.Or(os.Getenv("LOCALCLUSTER"), filepath.Join("..", "..", "bin", "localcluster")),
		Module:       filepath.Join("..", ".."),
		Dir:          dir,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := env.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	return m.Run()
}

// within is a context for one step of a test.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, fmt.Errorf("not within %s", limit))
	t.Cleanup(cancel)
	return ctx
}

// must ends the test if a step failed.
func must(t *testing.T, err error, what string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
