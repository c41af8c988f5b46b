package options

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudcore-io/cloudcore/pkg/apis/componentconfig/v1alpha1"
)

func mustDecode(t *testing.T, text string) (*v1alpha1.CloudCoreConfig, []v1alpha1.Warning) {
	t.Helper()
	cfg, warnings, err := Decode([]byte(text))
	if err != nil {
		t.Fatalf("Decode(%q): %v", text, err)
	}
	return cfg, warnings
}

func paths(warnings []v1alpha1.Warning) []string {
	var out []string
	for _, w := range warnings {
		out = append(out, w.Path)
	}
	return out
}

func TestSpec01Check04_HelmConfigMapLoads(t *testing.T) {
	cfg, warnings, err := Load("testdata/helm-v1.23.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 || len(cfg.Warnings()) != 3 { // the three tunnel files are not there
		t.Errorf("warnings = %v and %v, want none and one for each tunnel file", warnings, cfg.Warnings())
	}
	hub := &cfg.Modules.CloudHub
	if hub.NodeLimit != 1000 || hub.TLSCertFile != "/etc/kubeedge/certs/edge.crt" || hub.TLSCAKeyFile != "/etc/kubeedge/ca/rootCA.key" {
		t.Errorf("cloudHub = %+v", hub)
	}
	if !cfg.Modules.CloudStream.Enable || cfg.Modules.IptablesManager.Mode != v1alpha1.IptablesExternal {
		t.Errorf("cloudStream = %+v, iptablesManager = %+v", cfg.Modules.CloudStream, cfg.Modules.IptablesManager)
	}
	if cfg.KubeAPIConfig.QPS != 5000 || cfg.KubeAPIConfig.Burst != 10000 {
		t.Errorf("qps, burst = %d, %d, want those of 1000 nodes", cfg.KubeAPIConfig.QPS, cfg.KubeAPIConfig.Burst)
	}
	if _, err := hub.CleanAddresses(detected("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(hub.AdvertiseAddress, []string{"192.0.2.1"}) || len(hub.DNSNames) != 0 {
		t.Errorf("names of the certificate = %q, %q; want the detected address and no empty name", hub.AdvertiseAddress, hub.DNSNames)
	}
}

func TestSpec01Check05_OldFilesLoadWithWarnings(t *testing.T) {
	for _, tc := range []struct {
		file    string
		address string
		want    []string
	}{
		{"testdata/full-v1.6.yaml", "192.0.2.10", []string{
			"leaderelection",
			"modules.deviceController.context",
			"modules.edgeController.buffer.endpointsEvent",
			"modules.edgeController.buffer.queryEndpoints",
			"modules.edgeController.buffer.queryService",
			"modules.edgeController.buffer.serviceEvent",
			"modules.edgeController.context",
			"modules.edgeController.load.queryEndpointsWorkers",
			"modules.edgeController.load.queryServiceWorkers",
		}},
		{"testdata/full-v1.12.yaml", "192.0.2.12", []string{
			"modules.edgeController.buffer.endpointsEvent",
			"modules.edgeController.buffer.queryEndpoints",
			"modules.edgeController.buffer.queryService",
			"modules.edgeController.buffer.serviceEvent",
			"modules.edgeController.load.queryEndpointsWorkers",
			"modules.edgeController.load.queryServiceWorkers",
			"modules.nodeUpgradeJobController",
		}},
	} {
		cfg, warnings, err := Load(tc.file)
		if err != nil {
			t.Errorf("%s: %v", tc.file, err)
			continue
		}
		if got := paths(warnings); !slices.Equal(got, tc.want) {
			t.Errorf("%s: warnings for %q, want %q", tc.file, got, tc.want)
		}
		if errs := cfg.Validate(); len(errs) > 0 {
			t.Errorf("%s: not valid: %v", tc.file, errs)
		}
		if got := cfg.Modules.CloudHub.AdvertiseAddress; !slices.Equal(got, []string{tc.address}) {
			t.Errorf("%s: addresses %q", tc.file, got)
		}
		// 100 and 200 are what those releases printed, nobody chose them.
		if k := cfg.KubeAPIConfig; k.QPS != 5000 || k.Burst != 10000 {
			t.Errorf("%s: qps %d, burst %d; want those of 1000 nodes", tc.file, k.QPS, k.Burst)
		}
		// Workers below what the node limit asks for are raised, as releases since 1.13 do.
		if got := cfg.Modules.EdgeController.Load.QueryNodeWorkers; got != 1000 {
			t.Errorf("%s: queryNodeWorkers = %d, want 1000", tc.file, got)
		}
	}
}

func TestSpec01Check06_TypesAreStrictKeysAreNot(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`modules: {cloudHub: {nodeLimit: "10"}}`, `modules.cloudHub.nodeLimit: Invalid value: "10": must be a plain whole number`},
		{`modules: {cloudHub: {tokenRefreshDuration: 12h}}`, `modules.cloudHub.tokenRefreshDuration: Invalid value: "12h": must be a plain whole number`},
		{`modules: {iptablesManager: {mode: foo}}`, `modules.iptablesManager.mode: Invalid value: "foo": must be one of internal, external`},
		{`modules: {iptablesManager: {mode: ""}}`, `modules.iptablesManager.mode: Invalid value: "": must be one of internal, external`},
		{`modules: {cloudHub: {enable: "true"}}`, `modules.cloudHub.enable: Invalid value: "true": must be true or false`},
		{`modules: {cloudHub: {nodeLimit: 1.5}}`, `modules.cloudHub.nodeLimit: Invalid value: 1.5: must be a plain whole number`},
		{`modules: {cloudHub: {nodeLimit: 3000000000}}`, `modules.cloudHub.nodeLimit: Invalid value: 3000000000: must fit 32 bits`},
		{`modules: {router: {port: -1}}`, `modules.router.port: Invalid value: -1: must be a number from 0 to 4294967295`},
		{`modules: {router: {port: 4294967296}}`, `modules.router.port: Invalid value: 4294967296: must be a number from 0 to 4294967295`},
		{`modules: []`, `modules: Invalid value: "a list": must be a map of keys to values`},
		{`modules: {cloudHub: {dnsNames: a.example}}`, `modules.cloudHub.dnsNames: Invalid value: "a.example": must be a list`},
		{`modules: {cloudHub: {tlsCAFile: [a]}}`, `modules.cloudHub.tlsCAFile: Invalid value: "a list": must be text`},
		{`featureGates: {requireAuthorization: 1}`, `featureGates.requireAuthorization: Invalid value: 1: must be true or false`},
		{`featureGates: [a]`, `featureGates: Invalid value: "a list": must be a map of names to true or false`},
		{`just text`, `the file is not a map of keys to values but text`},
		{"a: b: c", "not YAML: "},
		{"modules: {", "not YAML: "},
	} {
		_, _, err := Decode([]byte(tc.text))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Decode(%s): error %v, want %q", tc.text, err, tc.want)
		}
	}

	cfg, warnings := mustDecode(t, `Modules: {cloudhub: {NodeLimit: 7}}`)
	if cfg.Modules.CloudHub.NodeLimit != 7 || len(warnings) > 0 {
		t.Errorf("nodeLimit = %d, warnings %v; want 7 and none", cfg.Modules.CloudHub.NodeLimit, warnings)
	}
	cfg, _ = mustDecode(t, `{modules: {cloudHub: {nodeLimit: 3}}, Modules: {cloudHub: {nodeLimit: 4, keepaliveInterval: 5}}}`)
	if h := cfg.Modules.CloudHub; h.NodeLimit != 3 || h.KeepaliveInterval != 5 {
		t.Errorf("nodeLimit, keepaliveInterval = %d, %d; want 3 of the exact spelling and 5 of the other", h.NodeLimit, h.KeepaliveInterval)
	}
}

func TestWrongValuesAreReportedTogether(t *testing.T) {
	_, _, err := Decode([]byte("modules:\n  router: {port: x, enable: 1}\n  cloudHub: {nodeLimit: [1]}\n"))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"modules.router.port:", "modules.router.enable:", "modules.cloudHub.nodeLimit:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %s", err, want)
		}
	}
}

func TestSpec01Check07_NullAndEmptyMeanDefaults(t *testing.T) {
	want, _ := mustDecode(t, "")
	if d := v1alpha1.Default(); !reflect.DeepEqual(want, d) {
		t.Fatalf("an empty file gives\n%+v, want the defaults\n%+v", want, d)
	}
	for _, text := range []string{
		"null", "---\n", "# only a comment\n", "{}", "~",
		"commonConfig: null", "commonConfig:", "kubeAPIConfig: null", "modules: null", "featureGates: null",
		"modules: {cloudHub: null}", "modules: {cloudHub: {quic: null, websocket: null, https: null, unixsocket: null, authorization: null}}",
		"modules: {edgeController: {load: null, buffer: null}}", "modules: {edgeController: null, deviceController: null, taskManager: null}",
		"modules: {syncController: null, dynamicController: null, cloudStream: null, router: null, iptablesManager: null}",
		"modules: {iptablesManager: {mode: null}}", "modules: {cloudHub: {nodeLimit: null, dnsNames: null, advertiseAddress: null}}",
	} {
		if cfg, warnings := mustDecode(t, text); !reflect.DeepEqual(cfg, want) || len(warnings) > 0 {
			t.Errorf("Decode(%q) = %+v, %v; want the defaults", text, cfg, warnings)
		}
	}
}

func TestValuesOnTopOfDefaults(t *testing.T) {
	cfg, warnings := mustDecode(t, `
commonConfig: {monitorServer: {bindAddress: ""}}
modules:
  cloudHub:
    enable: no
    dnsNames: [a.example, null, 7, on]
    advertiseAddress: []
    websocket: {port: 1e4}
    authorization: {modes: []}
  edgeController: {buffer: {podEvent: 0}}
  taskManager: {enable: yes}
  router: {enable: on, restTimeout: 0x10}
---
modules: {cloudHub: {nodeLimit: 1}}
`)
	hub := cfg.Modules.CloudHub
	for name, ok := range map[string]bool{
		"empty text wins":                cfg.CommonConfig.MonitorServer.BindAddress == "",
		"no is false":                    !hub.Enable,
		"yes is true":                    cfg.Modules.TaskManager.Enable,
		"on is true":                     cfg.Modules.Router.Enable,
		"hex":                            cfg.Modules.Router.RestTimeout == 16,
		"float that is whole":            hub.WebSocket.Port == 10000,
		"zero wins":                      cfg.Modules.EdgeController.Buffer.PodEvent == 0,
		"list replaces":                  slices.Equal(hub.DNSNames, []string{"a.example", "", "7", "true"}),
		"empty lists replace":            len(hub.AdvertiseAddress) == 0 && len(hub.Authorization.Modes) == 0,
		"siblings keep defaults":         hub.WebSocket.Address == "0.0.0.0" && hub.WebSocket.Enable,
		"only the first document counts": hub.NodeLimit == 500,
	} {
		if !ok {
			t.Errorf("%s: not so in %+v", name, cfg)
		}
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0].Message, "first YAML document") {
		t.Errorf("warnings = %v, want one for the second document", warnings)
	}
}

func TestAuthorizationModeKeepsDefaultOfItsPlace(t *testing.T) {
	cfg, _ := mustDecode(t, `modules: {cloudHub: {authorization: {modes: [{node: {}}, {node: {}}, {node: {enable: true}}]}}}`)
	var got []bool
	for _, m := range cfg.Modules.CloudHub.Authorization.Modes {
		got = append(got, m.Node.Enable)
	}
	if want := []bool{true, false, true}; !slices.Equal(got, want) {
		t.Errorf("modes = %v, want %v", got, want)
	}
}

func TestFileWarnings(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []string // path: part of the message
	}{
		{"nope: 1\nmodules: {cloudHub: {websockt: {port: 1}, nodeLimits: 3}}", []string{"modules.cloudHub.nodeLimits: unknown", "modules.cloudHub.websockt: unknown", "nope: unknown"}},
		{"1: a\ntrue: b\n? [x]\n: c", []string{"1: unknown", "<a list>: unknown", "true: unknown"}},
		{"kind: CloudCore\nkind: CloudCore", []string{"duplicate key"}},
		{"modules: {cloudHub: {authorization: {enable: true}}}", []string{"modules.cloudHub.authorization: enable is true but debug was not set"}},
		{"modules: {cloudHub: {authorization: {enable: true, debug: true}}}", nil},
		{"modules: {cloudHub: {authorization: {enable: true, debug: false}}}", nil},
		{"kubeAPIConfig: {qps: 0, burst: -3}", []string{"kubeAPIConfig.qps: 0 is no rate", "kubeAPIConfig.burst: -3 is no rate"}},
	} {
		_, warnings, err := Decode([]byte(tc.text))
		if err != nil && !strings.Contains(tc.text, "[x]") {
			t.Errorf("Decode(%q): %v", tc.text, err)
		}
		if err != nil {
			continue // lists as keys are refused by the parser
		}
		ok := len(warnings) == len(tc.want)
		for i, w := range warnings {
			ok = ok && i < len(tc.want) && strings.Contains(w.String(), tc.want[i])
		}
		if !ok {
			t.Errorf("Decode(%q): warnings %q, want %q", tc.text, warnings, tc.want)
		}
	}
}

func TestRequestRates(t *testing.T) {
	const printed = "contentType: application/vnd.kubernetes.protobuf, kubeConfig: '', master: ''"
	for _, tc := range []struct {
		name, api  string
		limit      string
		qps, burst int32
	}{
		{"absent", "", "1000", 5000, 10000},
		{"chosen", "qps: 50, burst: 100", "1000", 50, 100},
		{"one chosen", "qps: 50", "1000", 50, 10000},
		{"chosen value that is a default of old", "qps: 100, burst: 200", "1000", 100, 200},
		{"as v1.12 prints it", printed + ", qps: 100, burst: 200", "1000", 5000, 10000},
		{"as we print it", printed + ", qps: 2500, burst: 5000", "2000", 10000, 20000},
		{"printed, then edited", printed + ", qps: 60, burst: 5000", "2000", 60, 5000},
		{"no rates", "qps: 0, burst: -1", "10", 50, 100},
		{"no nodes", "", "0", 5, 10},
		{"negative limit", "", "-4", 5, 10},
		{"beyond 32 bits", "", "2147483647", 2147483647, 2147483647},
	} {
		cfg, _ := mustDecode(t, "kubeAPIConfig: {"+tc.api+"}\nmodules: {cloudHub: {nodeLimit: "+tc.limit+"}}")
		if k := cfg.KubeAPIConfig; k.QPS != tc.qps || k.Burst != tc.burst {
			t.Errorf("%s: qps, burst = %d, %d; want %d, %d", tc.name, k.QPS, k.Burst, tc.qps, tc.burst)
		}
	}
}

func TestFileWrittenByReferenceLoads(t *testing.T) {
	cfg, warnings, err := Load("testdata/rewritten-v1.23.yaml")
	if err != nil || len(warnings) > 0 {
		t.Fatalf("err %v, warnings %v", err, warnings)
	}
	if k := cfg.KubeAPIConfig; k.QPS != 10000 || k.Burst != 20000 {
		t.Errorf("rates = %+v", k)
	}
	if b := cfg.Modules.EdgeController.Buffer; b.CreateLease != 3024 || b.PatchNode != 2024 {
		t.Errorf("buffer = %+v", b)
	}
}

func TestSpec01Check03_MissingFile(t *testing.T) {
	_, _, err := Load("/no/such")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"config: Required value", "/no/such", "--minconfig", "--defaultconfig"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
}

func TestUnreasonableFilesAreRefusedQuickly(t *testing.T) {
	bomb := "a: &a [" + strings.Repeat("x,", 9) + "x]\n"
	for c := 'b'; c < 'l'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+p+",", 9) + "*" + p + "]\n"
	}
	for name, text := range map[string]string{
		"100 levels, flow":    "a: " + strings.Repeat("[", 100) + strings.Repeat("]", 100),
		"9 900 levels, flow":  "a: " + strings.Repeat("{b: ", 9900) + strings.Repeat("}", 9900),
		"10 000 levels, flow": "a: " + strings.Repeat("[", 10001) + strings.Repeat("]", 10001),
		"10 000 levels, list": "a:\n" + strings.Repeat("- ", 10001) + "x",
		"9 900 levels, block": strings.Repeat("- ", 9900) + "x",
		"alias bomb":          bomb,
		"long list":           "modules: {cloudHub: {dnsNames: [" + strings.Repeat("a,", 2000) + "a]}}",
		"long text":           "modules: {cloudHub: {tlsCAFile: " + strings.Repeat("a", 5000) + "}}",
		"one text, many times": "x: &x " + strings.Repeat("a", 400_000) + "\nmodules: {cloudHub: {dnsNames: [" +
			strings.Repeat("*x,", 150_000) + "*x]}}",
		"too large": strings.Repeat("# comment\n", 110_000),
	} {
		start := time.Now()
		_, _, err := Decode([]byte(text))
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if len(err.Error()) > 1000 {
			t.Errorf("%s: error of %d bytes", name, len(err.Error()))
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}

	huge := filepath.Join(t.TempDir(), "huge.yaml")
	f, err := os.Create(huge)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(100 << 20); err != nil { // sparse
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	allocated := testing.AllocsPerRun(1, func() {
		if _, _, err := Load(huge); err == nil || !strings.Contains(err.Error(), "larger than 1048576 bytes") {
			t.Errorf("100 MB: error %v", err)
		}
	})
	if allocated > 10_000 {
		t.Errorf("100 MB: %v allocations", allocated)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		b.WriteString("k" + strings.Repeat("y", i%50) + string(rune('a'+i%26)) + ": 1\n")
	}
	_, warnings := mustDecode(t, b.String())
	if len(warnings) > 2*maxWarnings+1 {
		t.Errorf("%d warnings", len(warnings))
	}
	_, _, err := Decode([]byte("modules: {cloudHub: {dnsNames: [" + strings.Repeat("[a],", 1000) + "]}}"))
	if err == nil || strings.Count(err.Error(), "must be text") != maxErrors {
		t.Errorf("error %.200v, want %d parts", err, maxErrors)
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"helm-v1.23.yaml", "full-v1.6.yaml", "full-v1.12.yaml", "rewritten-v1.23.yaml"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range []string{"", "null", "a: &a [*a]", "<<: {a: 1}", "modules: {cloudHub: {nodeLimit: .inf}}", "? {a: b}\n: c", "---\n---\n", "\xff\xfe", "featureGates: {a: true, 1: no}", "kubeAPIConfig: {qps: 1e3}", "x: !!binary aGk=", "x: 2020-01-01"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, warnings, err := Decode(data)
		if len(warnings) > 2*maxWarnings+10 {
			t.Fatalf("%d warnings", len(warnings))
		}
		if err != nil {
			if err.Error() == "" {
				t.Fatal("error without text")
			}
			return
		}
		// Whatever loads has usable rates, can be checked, printed and read back unchanged.
		if cfg.KubeAPIConfig.QPS <= 0 || cfg.KubeAPIConfig.Burst <= 0 {
			t.Fatalf("rates %+v", cfg.KubeAPIConfig)
		}
		_, _ = cfg.Validate(), cfg.Warnings()
		text := printed(t, cfg)
		again, _, err := Decode(text)
		if err != nil {
			t.Fatalf("printed form of %q does not load: %v\n%s", data, err, text)
		}
		alike(cfg, again)
		if !reflect.DeepEqual(cfg, again) {
			t.Fatalf("printed form of %q differs:\n%+v\n%+v\n%s", data, cfg, again, text)
		}
	})
}

// alike takes out of the comparison what printing may change: default rates follow
// nodeLimit when they are read, and nothing is printed as an empty list or map.
func alike(cfg, again *v1alpha1.CloudCoreConfig) {
	again.KubeAPIConfig.QPS, again.KubeAPIConfig.Burst = cfg.KubeAPIConfig.QPS, cfg.KubeAPIConfig.Burst
	for _, c := range []*v1alpha1.CloudCoreConfig{cfg, again} {
		if len(c.FeatureGates) == 0 {
			c.FeatureGates = nil
		}
		if len(c.Modules.CloudHub.AdvertiseAddress) == 0 {
			c.Modules.CloudHub.AdvertiseAddress = nil
		}
	}
}
