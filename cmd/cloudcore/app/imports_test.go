package app

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImportDirections holds the arrows of docs/architecture.md: cmd → modules → (kube, message, bus, apis). Modules
// don't import one another, and the packages that all share import nothing of ours.
func TestImportDirections(t *testing.T) {
	const project = "github.com/cloudcore-io/cloudcore/"
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, project+"...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	modules := []string{"cloudhub", "edgecontroller", "devicecontroller", "synccontroller", "router", "dynamiccontroller",
		"cloudstream", "taskmanager", "policycontroller", "csrapprover"}
	module := func(pkg string) string {
		for _, m := range modules {
			if pkg == "pkg/"+m || strings.HasPrefix(pkg, "pkg/"+m+"/") {
				return m
			}
		}
		return ""
	}
	checked := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		from := strings.TrimPrefix(fields[0], project)
		checked++
		for _, imported := range fields[1:] {
			to, ours := strings.CutPrefix(imported, project)
			if !ours {
				continue
			}
			switch {
			case from == "pkg/message":
				t.Errorf("%s imports %s: it must import nothing of ours", from, to)
			case (from == "pkg/bus" || from == "pkg/desired") && to != "pkg/message":
				t.Errorf("%s imports %s: only pkg/message is allowed", from, to)
			case module(from) != "" && module(to) != "" && module(from) != module(to):
				t.Errorf("%s imports %s: modules meet on the bus or through interfaces of the consumer", from, to)
			case strings.HasPrefix(from, "pkg/") && strings.HasPrefix(to, "cmd/"):
				t.Errorf("%s imports %s: nothing below cmd knows cmd", from, to)
			case strings.HasPrefix(from, "pkg/cloudhub/delivery") && !strings.HasPrefix(to, "pkg/message") && !strings.HasPrefix(to, "pkg/desired"):
				t.Errorf("%s imports %s: delivery knows neither connections nor Kubernetes objects", from, to)
			}
		}
	}
	if checked < 10 {
		t.Fatalf("only %d packages were checked", checked)
	}
}
