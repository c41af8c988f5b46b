package options

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	yaml "go.yaml.in/yaml/v2"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/cloudcore-io/cloudcore/pkg/apis/componentconfig/v1alpha1"
)

const (
	// maxFileSize is the most that a ConfigMap can carry; a complete file has 8 KiB.
	maxFileSize = 1 << 20
	// maxDepth bounds the nesting of a file; the deepest real key is six levels down.
	maxDepth = 64
	// maxParserText bounds what of a parser's message reaches the log: it may quote the file.
	maxParserText = 300
)

// Load reads the configuration file and completes what follows from its values. It does not
// validate. The error of a missing file names the file and the flags that print one.
func Load(path string) (*v1alpha1.CloudCoreConfig, []v1alpha1.Warning, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, nil, err
	}
	cfg, warnings, err := Decode(data)
	if err != nil {
		return nil, warnings, fmt.Errorf("load %s: %w", path, err)
	}
	return cfg, warnings, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(filepath.Clean(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil, field.Required(field.NewPath("config"),
			fmt.Sprintf("file %s does not exist; cloudcore --minconfig or --defaultconfig prints one to start from", path))
	}
	if err != nil {
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("load %s: the file is larger than %d bytes", path, maxFileSize)
	}
	return data, nil
}

// Decode turns the content of a file into a configuration on top of the defaults. All wrong
// values are reported together. It is safe for any input.
func Decode(data []byte) (*v1alpha1.CloudCoreConfig, []v1alpha1.Warning, error) {
	if len(data) > maxFileSize {
		return nil, nil, fmt.Errorf("the file is larger than %d bytes", maxFileSize)
	}
	tree, warnings, err := parse(data)
	if err != nil {
		return nil, warnings, err
	}
	if deeper(tree, maxDepth) {
		return nil, warnings, fmt.Errorf("the file is nested deeper than %d levels", maxDepth)
	}

	cfg := v1alpha1.Default()
	rates := cfg.KubeAPIConfig // as printed by --defaultconfig
	cfg.KubeAPIConfig.QPS, cfg.KubeAPIConfig.Burst = 0, 0
	d := newDecoder()
	d.document(tree, cfg)
	if err := d.err(); err != nil {
		return nil, append(warnings, d.warnings...), err
	}
	warnings = append(warnings, d.warnings...)
	warnings = append(warnings, d.unenforced(cfg)...)
	warnings = append(warnings, d.settleRates(&cfg.KubeAPIConfig, rates)...)
	cfg.Derive()
	return cfg, warnings, nil
}

// parse returns the first document as maps, lists and scalars.
func parse(data []byte) (any, []v1alpha1.Warning, error) {
	var tree any
	var warnings []v1alpha1.Warning

	// Strict first, for the names of keys that stand twice; then the reading that counts, in
	// which the last one wins.
	strict := yaml.NewDecoder(bytes.NewReader(data))
	strict.SetStrict(true)
	var twice *yaml.TypeError
	err := strict.Decode(&tree)
	if errors.As(err, &twice) {
		for _, text := range twice.Errors[:min(len(twice.Errors), maxWarnings)] {
			warnings = append(warnings, v1alpha1.Warning{Message: "duplicate key, the last one counts: " + clip(text)})
		}
		tree, err = nil, nil
		if err := yaml.Unmarshal(data, &tree); err != nil {
			return nil, warnings, parserError(err)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil, warnings, nil // an empty file
	}
	if err != nil {
		return nil, warnings, parserError(err)
	}
	var rest struct{}
	if err := strict.Decode(&rest); !errors.Is(err, io.EOF) {
		warnings = append(warnings, v1alpha1.Warning{Message: "only the first YAML document is read, what follows it is ignored"})
	}
	return tree, warnings, nil
}

func parserError(err error) error { return fmt.Errorf("not YAML: %s", clip(err.Error())) }

// clip shortens text of the file for a message.
func clip(s string) string {
	if len(s) > maxParserText {
		s = s[:maxParserText] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// deeper reports whether v has more than limit levels of maps and lists.
func deeper(v any, limit int) bool {
	switch v := v.(type) {
	case map[any]any:
		if limit == 0 {
			return true
		}
		for k, e := range v {
			if deeper(k, limit-1) || deeper(e, limit-1) {
				return true
			}
		}
	case []any:
		if limit == 0 {
			return true
		}
		for _, e := range v {
			if deeper(e, limit-1) {
				return true
			}
		}
	}
	return false
}

// unenforced warns of the trap that authorization.debug is true unless written (spec 01 §4.2).
func (d *decoder) unenforced(cfg *v1alpha1.CloudCoreConfig) []v1alpha1.Warning {
	const path = "modules.cloudHub.authorization"
	a := cfg.Modules.CloudHub.Authorization
	if !cfg.Modules.CloudHub.Enable || !a.Enable || !a.Debug || d.given[path+".debug"] {
		return nil
	}
	return []v1alpha1.Warning{{Path: path, Message: "enable is true but debug was not set and is true by default: NOTHING IS ENFORCED, denials are only logged; set debug to false to enforce"}}
}

// settleRates decides who chose the request rates. A positive number in the file was chosen,
// unless the file carries the whole section as some release printed it: then the numbers are
// defaults that nobody picked, and following them would throttle a larger nodeLimit.
func (d *decoder) settleRates(k *v1alpha1.KubeAPIConfig, now v1alpha1.KubeAPIConfig) []v1alpha1.Warning {
	const path = "kubeAPIConfig."
	if d.given[path+"contentType"] && d.given[path+"master"] && d.given[path+"kubeConfig"] {
		for _, printed := range []struct{ qps, burst int32 }{
			{now.QPS, now.Burst},
			{100, 200}, // releases up to 1.12
		} {
			if k.QPS == printed.qps && k.Burst == printed.burst {
				k.QPS, k.Burst = 0, 0
				return nil
			}
		}
	}
	var warnings []v1alpha1.Warning
	for _, f := range []struct {
		key   string
		value int32
	}{{"qps", k.QPS}, {"burst", k.Burst}} {
		if f.value <= 0 && d.given[path+f.key] {
			warnings = append(warnings, v1alpha1.Warning{Path: path + f.key, Message: fmt.Sprintf("%d is no rate, the one that follows from nodeLimit is used", f.value)})
		}
	}
	return warnings
}
