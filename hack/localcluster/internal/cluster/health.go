package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"time"
)

// probeTimeout bounds one question to a component that may be there and not answer.
const probeTimeout = 5 * time.Second

// readyCheck returns the question whether a component serves.
func readyCheck(name string, ports *ports, creds *credentials) func(context.Context) error {
	url := ports.urlOf(name)
	switch name {
	case Etcd:
		return probe(creds.etcd, url+"/health")
	case ControllerManager:
		// Pods can be created when the controllers have made these two objects.
		const namespace = "/api/v1/namespaces/default"
		return all(
			probe(creds.admin, url+"/healthz"),
			probe(creds.admin, ports.urlOf(APIServer)+namespace+"/serviceaccounts/default"),
			probe(creds.admin, ports.urlOf(APIServer)+namespace+"/configmaps/kube-root-ca.crt"),
		)
	default:
		return probe(creds.admin, url+"/readyz")
	}
}

func all(checks ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, check := range checks {
			if err := check(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// probe returns a check that GETs url. Each question has a connection of its own: the server may have been restarted
// since the last one.
func probe(config *tls.Config, url string) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("probe %s: %w", url, err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
			return fmt.Errorf("probe %s: %s: %s", url, resp.Status, body)
		}
		return nil
	}
}
