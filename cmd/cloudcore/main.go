// Command cloudcore is the cloud side of a Kubernetes edge platform: it speaks to unmodified KubeEdge EdgeCore nodes.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/cloudcore-io/cloudcore/cmd/cloudcore/app"
)

// gcPercent makes the heap of an idle fleet grow by half, not to its double, before it is collected: memory per node is
// the scarce thing here, and there is little garbage. The environment variable GOGC wins.
const gcPercent = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := app.Signals(context.Background(), os.Exit)
	code := app.Main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
