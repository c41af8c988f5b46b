// Command cloudcore is the cloud side of a Kubernetes edge platform: it speaks to unmodified KubeEdge EdgeCore nodes.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/cloudcore-io/cloudcore/cmd/cloudcore/app"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		stop()
		<-signals
		os.Exit(1) // the second signal: at once
	}()
	os.Exit(app.Main(ctx, os.Args[1:]))
}
