package options

import (
	"bytes"
	"errors"
	"net"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/cloudcore-io/cloudcore/pkg/apis/componentconfig/v1alpha1"
)

func detected(ip string) func() (net.IP, error) {
	return func() (net.IP, error) {
		if ip == "" {
			return nil, errors.New("no default route")
		}
		return net.ParseIP(ip), nil
	}
}

// printed prints any configuration in full, which the command does only for its own two.
func printed(t *testing.T, cfg *v1alpha1.CloudCoreConfig) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := printConfig(&b, cfg, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSpec01Check01_PrintedConfigurations(t *testing.T) {
	ip := net.ParseIP("10.0.0.5")
	var full, small bytes.Buffer
	if err := errors.Join(PrintDefault(&full, ip), PrintMinimal(&small, ip)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"full": full.String(), "small": small.String()} {
		lines := strings.Split(text, "\n")
		for i := range 3 {
			if !strings.HasPrefix(lines[i], "# ") {
				t.Errorf("%s: line %d is %q, want a comment", name, i+1, lines[i])
			}
		}
		if lines[3] != "" || !strings.HasSuffix(text, "\n\n\n") || strings.HasSuffix(text, "\n\n\n\n") {
			t.Errorf("%s: want an empty line after the head and two at the end", name)
		}
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if head.APIVersion != "cloudcore.config.kubeedge.io/v1alpha1" || head.Kind != "CloudCore" {
			t.Errorf("%s: %+v", name, head)
		}
		for i, line := range lines {
			trimmed := strings.TrimSpace(line)
			isKey := strings.Contains(trimmed, ":") && !strings.HasPrefix(trimmed, "#") && !strings.HasPrefix(trimmed, "- ")
			if isKey && !strings.HasPrefix(strings.TrimSpace(lines[i-1]), "#") {
				t.Errorf("%s: %q has no comment", name, trimmed)
			}
			if len(line) > commentWidth+20 {
				t.Errorf("%s: long line %q", name, line)
			}
		}
	}

	// Both read back as what they were printed from, without a warning.
	wantFull, wantSmall := v1alpha1.Default(), v1alpha1.Minimal()
	for _, c := range []*v1alpha1.CloudCoreConfig{wantFull, wantSmall} {
		c.Modules.CloudHub.AdvertiseAddress = []string{"10.0.0.5"}
	}
	wantFull.FeatureGates = map[string]bool{} // printed as an empty map, not left out
	wantSmall.KubeAPIConfig.QPS, wantSmall.KubeAPIConfig.Burst = 0, 0
	wantSmall.Derive()
	for name, tc := range map[string]struct {
		text string
		want *v1alpha1.CloudCoreConfig
	}{"full": {full.String(), wantFull}, "small": {small.String(), wantSmall}} {
		got, warnings, err := Decode([]byte(tc.text))
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: error %v, warnings %v\n%s", name, err, warnings, tc.text)
		} else if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: read back as\n%+v, want\n%+v", name, got, tc.want)
		} else if errs, warns := got.Validate(), got.Warnings(); len(errs) > 0 || len(warns) > 0 {
			t.Errorf("%s: errors %v, warnings %v", name, errs, warns)
		}
	}
}

// TestSpec01Check01_DefaultValues goes through column D of spec 01 §4 with a decoder that knows
// nothing of our types.
func TestSpec01Check01_DefaultValues(t *testing.T) {
	var b bytes.Buffer
	if err := PrintDefault(&b, net.ParseIP("10.0.0.5")); err != nil {
		t.Fatal(err)
	}
	checkValues(t, b.Bytes(), map[string]any{
		"apiVersion": "cloudcore.config.kubeedge.io/v1alpha1", "kind": "CloudCore",
		"commonConfig.tunnelPort": 10350, "commonConfig.monitorServer.bindAddress": "127.0.0.1:9091",
		"commonConfig.monitorServer.enableProfiling": false,
		"kubeAPIConfig.master":                       "", "kubeAPIConfig.kubeConfig": "",
		"kubeAPIConfig.contentType": "application/vnd.kubernetes.protobuf",
		"kubeAPIConfig.qps":         2500, "kubeAPIConfig.burst": 5000,

		"modules.cloudHub.enable": true, "modules.cloudHub.keepaliveInterval": 30, "modules.cloudHub.nodeLimit": 500,
		"modules.cloudHub.tlsCAFile": "/etc/kubeedge/ca/rootCA.crt", "modules.cloudHub.tlsCAKeyFile": "/etc/kubeedge/ca/rootCA.key",
		"modules.cloudHub.tlsCertFile": "/etc/kubeedge/certs/server.crt", "modules.cloudHub.tlsPrivateKeyFile": "/etc/kubeedge/certs/server.key",
		"modules.cloudHub.writeTimeout": 30, "modules.cloudHub.advertiseAddress": []any{"10.0.0.5"}, "modules.cloudHub.dnsNames": []any{""},
		"modules.cloudHub.edgeCertSigningDuration": 365, "modules.cloudHub.tokenRefreshDuration": 12,
		"modules.cloudHub.quic.enable": false, "modules.cloudHub.quic.address": "0.0.0.0", "modules.cloudHub.quic.port": 10001,
		"modules.cloudHub.quic.maxIncomingStreams": 10000,
		"modules.cloudHub.unixsocket.enable":       true, "modules.cloudHub.unixsocket.address": "unix:///var/lib/kubeedge/kubeedge.sock",
		"modules.cloudHub.websocket.enable": true, "modules.cloudHub.websocket.address": "0.0.0.0", "modules.cloudHub.websocket.port": 10000,
		"modules.cloudHub.https.enable": true, "modules.cloudHub.https.address": "0.0.0.0", "modules.cloudHub.https.port": 10002,
		"modules.cloudHub.authorization.enable": false, "modules.cloudHub.authorization.debug": true,
		"modules.cloudHub.authorization.modes": []any{map[string]any{"node": map[string]any{"enable": true}}},

		"modules.edgeController.enable": true, "modules.edgeController.nodeUpdateFrequency": 10,
		"modules.edgeController.buffer": ints(map[string]int{"patchNode": 1274, "queryNode": 1524, "createLease": 1524,
			"podEvent": 1, "configMapEvent": 1, "secretEvent": 1, "rulesEvent": 1, "ruleEndpointsEvent": 1},
			1024, "processEvent", "updatePodStatus", "updateNodeStatus", "queryConfigMap", "querySecret", "queryPersistentVolume",
			"queryPersistentVolumeClaim", "queryVolumeAttachment", "createNode", "updateNode", "patchPod", "deletePod", "queryLease",
			"serviceAccountToken", "createPod", "certificateSigningRequest"),
		"modules.edgeController.load": ints(map[string]int{"updatePodStatusWorkers": 1, "updateNodeStatusWorkers": 1, "processEventWorkers": 4,
			"queryConfigMapWorkers": 100, "querySecretWorkers": 100, "queryPersistentVolumeWorkers": 4, "queryPersistentVolumeClaimWorkers": 4,
			"queryVolumeAttachmentWorkers": 4, "createNodeWorkers": 100, "updateNodeWorkers": 4, "patchPodWorkers": 100, "deletePodWorkers": 100,
			"queryLeaseWorkers": 100, "queryNodeWorkers": 500, "createLeaseWorkers": 500, "patchNodeWorkers": 110,
			"certificateSigningRequestWorkers": 4, "UpdateRuleStatusWorkers": 4, "ServiceAccountTokenWorkers": 100, "CreatePodWorks": 4}, 0),

		"modules.deviceController.enable": true,
		"modules.deviceController.buffer": ints(map[string]int{"updateDeviceTwins": 1024, "updateDeviceStatus": 1024, "deviceEvent": 1,
			"deviceModelEvent": 1, "deviceStatusEvent": 0}, 0),
		"modules.deviceController.load": ints(map[string]int{"updateDeviceStatusWorkers": 1}, 0),
		"modules.taskManager.enable":    false,
		"modules.taskManager.buffer":    ints(map[string]int{"taskStatus": 1024, "taskEvent": 1}, 0),
		"modules.taskManager.load":      ints(map[string]int{"taskWorkers": 1}, 0),
		"modules.syncController.enable": true, "modules.dynamicController.enable": false,
		"modules.cloudStream.enable": false, "modules.cloudStream.tunnelPort": 10004, "modules.cloudStream.streamPort": 10003,
		"modules.cloudStream.tlsTunnelCAFile":         "/etc/kubeedge/ca/rootCA.crt",
		"modules.cloudStream.tlsTunnelCertFile":       "/etc/kubeedge/certs/server.crt",
		"modules.cloudStream.tlsTunnelPrivateKeyFile": "/etc/kubeedge/certs/server.key",
		"modules.cloudStream.tlsStreamCAFile":         "/etc/kubeedge/ca/streamCA.crt",
		"modules.cloudStream.tlsStreamCertFile":       "/etc/kubeedge/certs/stream.crt",
		"modules.cloudStream.tlsStreamPrivateKeyFile": "/etc/kubeedge/certs/stream.key",
		"modules.router.enable":                       false, "modules.router.address": "0.0.0.0", "modules.router.port": 9443, "modules.router.restTimeout": 60,
		"modules.iptablesManager.enable": true, "modules.iptablesManager.mode": "internal",
	})
}

func TestSpec01Check02_MinimalFileStartsAWorkingHub(t *testing.T) {
	var b bytes.Buffer
	if err := PrintMinimal(&b, nil); err != nil {
		t.Fatal(err)
	}
	checkValues(t, b.Bytes(), map[string]any{
		"kubeAPIConfig": map[string]any{"kubeConfig": "", "master": ""}, "modules.cloudHub.enable": true, "modules.cloudHub.nodeLimit": 1000,
		"modules.cloudHub.tlsCAFile": "/etc/kubeedge/ca/rootCA.crt", "modules.cloudHub.tlsCAKeyFile": "/etc/kubeedge/ca/rootCA.key",
		"modules.cloudHub.tlsCertFile": "/etc/kubeedge/certs/server.crt", "modules.cloudHub.tlsPrivateKeyFile": "/etc/kubeedge/certs/server.key",
		"modules.cloudHub.advertiseAddress": []any{},
		"modules.cloudHub.unixsocket":       map[string]any{"enable": true, "address": "unix:///var/lib/kubeedge/kubeedge.sock"},
		"modules.cloudHub.websocket":        map[string]any{"enable": true, "address": "0.0.0.0", "port": float64(10000)},
		"modules.cloudHub.https":            map[string]any{"enable": true, "address": "0.0.0.0", "port": float64(10002)},
		"modules.router":                    map[string]any{"enable": false, "address": "0.0.0.0", "port": float64(9443), "restTimeout": float64(60)},
		"modules.iptablesManager":           map[string]any{"enable": true, "mode": "internal"},
	})
	var tree map[string]any
	if err := yaml.Unmarshal(b.Bytes(), &tree); err != nil {
		t.Fatal(err)
	}
	if len(tree) != 4 || len(tree["modules"].(map[string]any)) != 3 {
		t.Errorf("more than the minimal keys: %v", tree)
	}
	cfg, _ := mustDecode(t, b.String())
	if _, err := cfg.Modules.CloudHub.CleanAddresses(detected("192.0.2.1")); err != nil {
		t.Error(err)
	}
	if errs := cfg.Validate(); len(errs) > 0 {
		t.Error(errs)
	}
}

func TestEveryKeyIsDescribed(t *testing.T) {
	var walk func(path string, typ reflect.Type)
	walk = func(path string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := join(path, key(f))
			if key(f) == "" || f.Tag.Get("doc") == "" {
				t.Errorf("%s (%s) has no key or no description", name, f.Name)
			}
			if k := f.Type.Kind(); (k == reflect.Int32 || k == reflect.Int64 || k == reflect.Uint32) && f.Tag.Get("unit") == "" {
				t.Errorf("%s is a number without a unit", name)
			}
			switch elem := f.Type; {
			case elem.Kind() == reflect.Struct:
				walk(name, elem)
			case elem.Kind() == reflect.Slice && elem.Elem().Kind() == reflect.Struct:
				walk(name, elem.Elem())
			}
		}
	}
	walk("", reflect.TypeFor[v1alpha1.CloudCoreConfig]())
}

func TestOddTextSurvivesPrinting(t *testing.T) {
	for _, s := range []string{"", "yes", "1", "~", "a: b", "# x", "two\nlines", "tab\t", "\"", "é", " lead", "trail ", "{", "- a", "\u2028", "\x7f", "1e3", "2020-01-01"} {
		cfg := v1alpha1.Default()
		cfg.Modules.CloudHub.TLSCAFile = s
		cfg.FeatureGates = map[string]bool{s: true}
		got, _, err := Decode(printed(t, cfg))
		if err != nil || got.Modules.CloudHub.TLSCAFile != s || !got.FeatureGates[s] {
			t.Errorf("%q came back as %+v, %v", s, got, err)
		}
	}
}

func ints(values map[string]int, same int, names ...string) map[string]any {
	out := map[string]any{}
	for k, v := range values {
		out[k] = float64(v)
	}
	for _, k := range names {
		out[k] = float64(same)
	}
	return out
}

// checkValues compares dotted paths of a YAML text with values.
func checkValues(t *testing.T, text []byte, want map[string]any) {
	t.Helper()
	var tree any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	for path, value := range want {
		node := tree
		for _, k := range strings.Split(path, ".") {
			m, _ := node.(map[string]any)
			var ok bool
			if node, ok = m[k]; !ok {
				t.Errorf("%s is not printed", path)
				break
			}
		}
		if n, ok := value.(int); ok {
			value = float64(n)
		}
		if !reflect.DeepEqual(node, value) {
			t.Errorf("%s = %v, want %v", path, node, value)
		}
	}
}
