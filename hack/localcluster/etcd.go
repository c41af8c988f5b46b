package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// etcdOptions is the command line of the etcd component.
type etcdOptions struct {
	dataDir   string
	clientURL string
	certFile  string
	keyFile   string
	caFile    string
	fsync     bool
}

func parseEtcdOptions(args []string) (etcdOptions, error) {
	var o etcdOptions
	flags := pflag.NewFlagSet("etcd", pflag.ContinueOnError)
	flags.StringVar(&o.dataDir, "data-dir", "", "folder of the database")
	flags.StringVar(&o.clientURL, "client-url", "", "https URL to serve clients on")
	flags.StringVar(&o.certFile, "cert-file", "", "serving certificate")
	flags.StringVar(&o.keyFile, "key-file", "", "key of the serving certificate")
	flags.StringVar(&o.caFile, "trusted-ca-file", "", "CA of the clients' certificates")
	flags.BoolVar(&o.fsync, "fsync", false, "wait for the disk at every write")
	if err := flags.Parse(args); err != nil {
		return etcdOptions{}, err
	}
	return o, nil
}

func (o etcdOptions) config() (*embed.Config, error) {
	client, err := url.Parse(o.clientURL)
	if err != nil {
		return nil, fmt.Errorf("parse client URL: %w", err)
	}
	cfg := embed.NewConfig()
	cfg.Dir = o.dataDir
	cfg.ListenClientUrls = []url.URL{*client}
	cfg.AdvertiseClientUrls = []url.URL{*client}
	// A single member has no peers to listen for; the advertised peer URL is only its name in the member list.
	cfg.ListenPeerUrls = nil
	cfg.ClientTLSInfo = transport.TLSInfo{
		CertFile:       o.certFile,
		KeyFile:        o.keyFile,
		TrustedCAFile:  o.caFile,
		ClientCertAuth: true,
	}
	cfg.UnsafeNoFsync = !o.fsync
	cfg.LogOutputs = []string{embed.StdErrLogOutput}
	return cfg, nil
}

// runEtcd runs a single-member etcd until SIGTERM or a failure and returns the exit code of the process.
func runEtcd(args []string) int {
	if err := serveEtcd(args); err != nil {
		fmt.Fprintf(os.Stderr, "etcd: %v\n", err)
		return 1
	}
	return 0
}

func serveEtcd(args []string) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)

	options, err := parseEtcdOptions(args)
	if err != nil {
		return err
	}
	cfg, err := options.config()
	if err != nil {
		return err
	}
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	select {
	case <-stop:
		// This closes log and database. Closing the listeners as well would wait seconds for watches to end, which
		// the end of the process does at once.
		server.Server.Stop()
		return nil
	case err := <-server.Err():
		return fmt.Errorf("serve: %w", err)
	case <-server.Server.StopNotify():
		return errors.New("server stopped by itself")
	}
}
