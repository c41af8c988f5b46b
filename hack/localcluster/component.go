package main

import (
	"os"
	_ "time/tzdata" // CronJobs may name a time zone on machines that have no database of them

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // credential plugins for kubectl
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics, as in the released binaries
	_ "k8s.io/component-base/metrics/prometheus/version"  // version metric, as in the released binaries
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// Components keep feature gates, metric registries and log settings in global state and end the process when they
// fail, so each has a process of its own. Those of Kubernetes take the flags of the released binaries. All run until
// SIGTERM or a failure and return the exit code of the process.

func runAPIServer(args []string) int {
	return runKubernetes("kube-apiserver", args, apiserver.NewAPIServerCommand)
}

func runControllerManager(args []string) int {
	return runKubernetes("kube-controller-manager", args, controllermanager.NewControllerManagerCommand)
}

func runScheduler(args []string) int {
	return runKubernetes("kube-scheduler", args, func() *cobra.Command { return scheduler.NewSchedulerCommand() })
}

// runKubernetes gives the process the name of the released binary before the command is made: commands take names
// for logs and user agents from it.
func runKubernetes(binary string, args []string, newCommand func() *cobra.Command) int {
	os.Args = append([]string{binary}, args...)
	return cli.Run(newCommand())
}

// runKubectl runs kubectl with args (without the program's name) and returns the exit code of the process.
func runKubectl(args []string) int {
	os.Args = append([]string{"kubectl"}, args...)
	// Verbosity must be known while the command is being made, before its flags are parsed; an unusable value is
	// reported by the command itself.
	_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
	return 0
}
