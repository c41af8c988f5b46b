package options

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/component-base/featuregate"

	"github.com/cloudcore-io/cloudcore/pkg/apis/componentconfig/v1alpha1"
)

// The feature gates of cloudcore (spec 01 §7). Their names are part of the file format.
const (
	// RequireAuthorization runs the policy controller and the CSR approver. EdgeCore has a gate
	// of the same name for its side.
	RequireAuthorization featuregate.Feature = "requireAuthorization"
	// ModuleRestart concerns EdgeCore; cloudcore restarts its modules anyway.
	ModuleRestart featuregate.Feature = "moduleRestart"
	// DisableNodeTaskV1alpha2 makes the task manager serve the v1alpha1 jobs instead of v1alpha2.
	DisableNodeTaskV1alpha2 featuregate.Feature = "disableNodeTaskV1alpha2"
)

// FeatureGates builds the gates of one cloudcore from the file's map. A name that is not known
// costs a warning, not the start: files may be newer than the program.
func FeatureGates(set map[string]bool) (featuregate.FeatureGate, []v1alpha1.Warning, error) {
	gates := featuregate.NewFeatureGate()
	err := gates.Add(map[featuregate.Feature]featuregate.FeatureSpec{
		RequireAuthorization:    {Default: false, PreRelease: featuregate.Alpha},
		ModuleRestart:           {Default: false, PreRelease: featuregate.Alpha},
		DisableNodeTaskV1alpha2: {Default: false, PreRelease: featuregate.Alpha},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("define feature gates: %w", err)
	}
	known := gates.GetAll()
	names := slices.Sorted(maps.Keys(known)) // without the meta gates, for the hint
	var warnings []v1alpha1.Warning
	accepted := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if _, ok := known[featuregate.Feature(name)]; ok {
			accepted[name] = set[name]
			continue
		}
		w := v1alpha1.Warning{Path: join("featureGates", name), Message: "unknown feature gate is ignored"}
		for _, n := range names {
			if strings.EqualFold(string(n), name) {
				w.Message += fmt.Sprintf(", its name is written %s", n)
			}
		}
		warnings = append(warnings, w)
	}
	if err := gates.SetFromMap(accepted); err != nil {
		return nil, warnings, fmt.Errorf("set feature gates: %w", err)
	}
	return gates, warnings, nil
}

func sortedKeys(m reflect.Value) []string {
	var out []string
	for _, k := range m.MapKeys() {
		out = append(out, k.String())
	}
	slices.Sort(out)
	return out
}
