package enroll

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/fake"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/pki"
)

func plainAPI() *fake.Clientset { return fake.NewClientset() }

const (
	statusPath = "/task/upgrade/name/up-1/node/edge-1/status"
	statusBody = `{"NodeName":"edge-1","State":"","Event":"Upgrade","Action":"Success","Reason":"","Time":"2025-01-02T03:04:05Z","ExternalMessage":""}`
	legacyBody = `{"UpgradeID":"up-1","HistoryID":"h-1","NodeName":"edge-1","FromVersion":"v1.14.0","ToVersion":"v1.15.0","Status":"upgrade_success","Reason":"why"}`
)

func TestSpec02Check24_TaskReport(t *testing.T) {
	strict := startFleet(t, Config{}, pki.Config{})
	open := startFleet(t, Config{AllowAnonymousReports: true}, pki.Config{})
	legacy := startFleet(t, Config{}, pki.Config{AllowLegacyCertificates: true})
	stranger := newAuthority(t, pki.Config{}, plainAPI())
	own, other := newIdentity(t, strict.authority, "edge-1"), newIdentity(t, strict.authority, "edge-2")
	want := Report{TaskType: "upgrade", TaskID: "up-1", Node: "edge-1",
		Response: TaskResponse{NodeName: "edge-1", Event: "Upgrade", Action: "Success", Time: "2025-01-02T03:04:05Z"}}
	wantLegacy := Report{TaskType: "upgrade", TaskID: "up-1", Node: "edge-1",
		Response:  TaskResponse{NodeName: "edge-1", Event: "Upgrade", Action: "Success", Reason: "why"},
		HistoryID: "h-1", FromVersion: "v1.14.0", ToVersion: "v1.15.0"}
	withStatus := func(status string) string { return strings.Replace(legacyBody, "upgrade_success", status, 1) }
	outcome := func(event, action string) *Report {
		r := wantLegacy
		r.Response.Event, r.Response.Action = event, action
		return &r
	}

	tests := []struct {
		name  string
		fleet *fleet
		as    *identity
		path  string
		body  string
		code  int
		want  *Report
	}{
		{name: "own certificate", fleet: strict, as: own, path: statusPath, body: statusBody, code: 200, want: &want},
		{name: "node name left out", fleet: strict, as: own, path: statusPath, body: strings.Replace(statusBody, `"edge-1"`, `""`, 1), code: 200, want: &want},
		{name: "no certificate", fleet: strict, path: statusPath, body: statusBody, code: 401},
		{name: "another node's certificate", fleet: strict, as: other, path: statusPath, body: statusBody, code: 403},
		{name: "foreign CA", fleet: strict, as: newIdentity(t, stranger, "edge-1"), path: statusPath, body: statusBody, code: 401},
		{name: "expired certificate", fleet: strict, as: strict.identityUnder(t, "system:node:edge-1", "system:nodes", time.Minute), path: statusPath, body: statusBody, code: 401},
		{name: "legacy certificate, switch off", fleet: strict, as: strict.identityUnder(t, "kubeedge.io", "kubeEdge", never), path: statusPath, body: statusBody, code: 401},
		{name: "legacy certificate, switch on", fleet: legacy, as: legacy.identityUnder(t, "kubeedge.io", "kubeEdge", never), path: statusPath, body: statusBody, code: 200, want: &want},
		{name: "anonymous, switch on", fleet: open, path: statusPath, body: statusBody, code: 200, want: &want},
		{name: "about another node", fleet: strict, as: own, path: statusPath, body: strings.Replace(statusBody, "edge-1", "edge-2", 1), code: 400},
		{name: "not JSON", fleet: strict, as: own, path: statusPath, body: "hello", code: 400},
		{name: "two values", fleet: strict, as: own, path: statusPath, body: statusBody + "{}", code: 400},
		{name: "empty", fleet: strict, as: own, path: statusPath, code: 400},
		{name: "unknown action", fleet: strict, as: own, path: statusPath, body: strings.Replace(statusBody, "Success", "Maybe", 1), code: 400},
		{name: "impossible task name", fleet: strict, as: own, path: "/task/upgrade/name/up%2F1/node/edge-1/status", body: statusBody, code: 400},
		{name: "impossible task type", fleet: strict, as: own, path: "/task/up%2Fgrade/name/up-1/node/edge-1/status", body: statusBody, code: 400},
		{name: "just within the bound", fleet: strict, as: own, path: statusPath, body: statusBody + strings.Repeat(" ", maxReport-len(statusBody)), code: 200, want: &want},
		{name: "too large", fleet: strict, as: own, path: statusPath, body: statusBody + strings.Repeat(" ", maxReport), code: 400},

		{name: "old keadm", fleet: strict, as: own, path: "/nodeupgrade", body: legacyBody, code: 200, want: &wantLegacy},
		{name: "old keadm, rolled back", fleet: strict, as: own, path: "/nodeupgrade", body: withStatus("upgrade_failed_rollback_success"), code: 200, want: outcome("Rollback", "Failure")},
		{name: "old keadm, not rolled back", fleet: strict, as: own, path: "/nodeupgrade", body: withStatus("upgrade_failed_rollback_failed"), code: 200, want: outcome("Rollback", "Success")},
		{name: "old keadm with a legacy certificate", fleet: legacy, as: legacy.identityUnder(t, "kubeedge.io", "kubeEdge", never), path: "/nodeupgrade", body: legacyBody, code: 200, want: &wantLegacy},
		{name: "old keadm, unknown status", fleet: strict, as: own, path: "/nodeupgrade", body: withStatus("upgraded"), code: 400},
		{name: "old keadm, no ids", fleet: strict, as: own, path: "/nodeupgrade", body: `{"Status":"upgrade_success"}`, code: 400},
		{name: "old keadm, no certificate", fleet: strict, path: "/nodeupgrade", body: legacyBody, code: 401},
		{name: "old keadm, another node's certificate", fleet: strict, as: other, path: "/nodeupgrade", body: legacyBody, code: 403},
		{name: "old keadm, not JSON", fleet: strict, as: own, path: "/nodeupgrade", body: "{", code: 400},
		{name: "old keadm, too large", fleet: strict, as: own, path: "/nodeupgrade", body: legacyBody + strings.Repeat(" ", maxLegacyReport), code: 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.fleet.reports = nil
			got := tt.fleet.do(t, request{method: http.MethodPost, path: tt.path, as: tt.as, body: []byte(tt.body),
				header: map[string]string{"Content-Type": "application/json"}})
			if got.code != tt.code || (tt.code == 200 && got.body != "ok") {
				t.Errorf("got %d %q, want %d", got.code, got.body, tt.code)
			}
			switch {
			case tt.want == nil && len(tt.fleet.reports) != 0:
				t.Errorf("got report %+v, want none", tt.fleet.reports)
			case tt.want != nil && (len(tt.fleet.reports) != 1 || tt.fleet.reports[0] != *tt.want):
				t.Errorf("got reports %+v, want %+v", tt.fleet.reports, *tt.want)
			}
		})
	}
}

func TestReportThatNobodyTakes(t *testing.T) {
	f := startFleet(t, Config{MaxConcurrentReports: 1, AllowAnonymousReports: true}, pki.Config{})
	post := request{method: http.MethodPost, path: statusPath, body: []byte(statusBody)}
	f.sinkErr = errors.New("inbox is full")
	if got := f.do(t, post); got.code != http.StatusServiceUnavailable {
		t.Errorf("sink refuses: got %d %q, want 503", got.code, got.body)
	}
	f.server.reportSlots <- struct{}{} // somebody else's report is being read
	if got := f.do(t, post); got.code != http.StatusServiceUnavailable {
		t.Errorf("no slot: got %d %q, want 503", got.code, got.body)
	}
	<-f.server.reportSlots
	f.sinkErr = nil
	if got := f.do(t, post); got.code != http.StatusOK {
		t.Errorf("afterwards: got %d %q, want 200", got.code, got.body)
	}
}

func FuzzReportBodies(f *testing.F) {
	fl := newFleet(f, Config{AllowAnonymousReports: true, Reports: Limit{PerSecond: -1}}, pki.Config{})
	f.Add(statusPath, []byte(statusBody))
	f.Add("/nodeupgrade", []byte(legacyBody))
	f.Add("/task/a/name/b/node/c/status", []byte(`{"Action":"Success","NodeName":["`))
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://127.0.0.1/", bytes.NewReader(body))
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		r.URL.Path = path
		fl.reports = nil
		w := &recorder{header: http.Header{}}
		fl.server.ServeHTTP(w, r)
		if w.code == http.StatusOK && (len(fl.reports) != 1 || fl.reports[0].check() != nil) && path != "/ca.crt" {
			t.Errorf("answered 200 with reports %+v", fl.reports)
		}
		if w.code == http.StatusInternalServerError {
			t.Errorf("answered 500 to %q", body)
		}
	})
}

// recorder is the least that a handler needs.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(code int)        { w.code = code }
func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }
