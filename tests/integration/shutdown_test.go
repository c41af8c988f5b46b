package integration

import (
	"testing"
	"time"

	"github.com/cloudcore-io/cloudcore/tests/integration/harness"
)

// A cloudcore with sessions that gets SIGTERM is gone within 10 s, without an error.
func TestTerminationWithSessions(t *testing.T) {
	cloud := env.Cloudcore(t, harness.Options{})
	fleet := cloud.Fleet(t, 5)
	if got := cloud.Metrics(t).Sum(t, "cloudcore_hub_connected_nodes"); got != 5 {
		t.Errorf("cloudcore counts %v connected nodes, want 5", got)
	}
	before := fleet.Counters().ReadErrors
	must(t, cloud.Stop(within(t, 10*time.Second)), "stop cloudcore with sessions")
	if got := fleet.Counters().ReadErrors - before; got > 5 {
		t.Errorf("edges lost %d connections, want at most one each", got)
	}
}
