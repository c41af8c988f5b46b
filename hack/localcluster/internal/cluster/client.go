package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// maxAnswer bounds what is read from a control endpoint.
const maxAnswer = 1 << 20

// ShowStatus writes a table of the components of the cluster that runs in dir.
func ShowStatus(ctx context.Context, dir string, out io.Writer) error {
	data, err := ask(ctx, dir, http.MethodGet, "/")
	if err != nil {
		return err
	}
	var status Status
	if err := json.Unmarshal(data, &status); err != nil {
		return fmt.Errorf("read status: %w", err)
	}
	return writeTable(out, status.Components...)
}

// Control performs an action on a component of the cluster that runs in dir.
func Control(ctx context.Context, dir, component, action string, out io.Writer) error {
	data, err := ask(ctx, dir, http.MethodPost, "/"+component+"/"+action)
	if err != nil {
		return err
	}
	var status ComponentStatus
	if err := json.Unmarshal(data, &status); err != nil {
		return fmt.Errorf("read status: %w", err)
	}
	return writeTable(out, status)
}

func ask(ctx context.Context, dir, method, path string) ([]byte, error) {
	base, err := os.ReadFile(filepath.Join(dir, "control"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no cluster is ready in %s", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("find control endpoint: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSpace(string(base))+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask control endpoint: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask control endpoint: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read control endpoint: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(strings.TrimSpace(string(data)))
	}
	return data, nil
}

func writeTable(out io.Writer, components ...ComponentStatus) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "COMPONENT\tSTATE\tPID\tRESTARTS\tURL\tLOG")
	for _, c := range components {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\t%s\n", c.Name, c.State, c.PID, c.Restarts, c.URL, c.Log)
	}
	return table.Flush()
}
