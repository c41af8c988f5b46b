package enroll

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/pki"
)

const (
	maxReport       = 3 << 20 // spec 02 §6.3
	maxLegacyReport = 1 << 20

	taskUpgrade = "upgrade"
)

// Report is the result of a task on one node.
type Report struct {
	// TaskType is "upgrade" for what keadm sends.
	TaskType string
	// TaskID is the name of the job.
	TaskID string
	// Node has been proved by certificate, unless reports may be anonymous.
	Node     string
	Response TaskResponse

	// Only from keadm 1.15 and older, which reports to /nodeupgrade.
	HistoryID, FromVersion, ToVersion string
}

// TaskResponse is the body of a report, and the content of the message that it stands for (spec 02 §6.3).
type TaskResponse struct {
	NodeName        string `json:"NodeName"`
	State           string `json:"State"`
	Event           string `json:"Event"`
	Action          string `json:"Action"`
	Reason          string `json:"Reason"`
	Time            string `json:"Time"`
	ExternalMessage string `json:"ExternalMessage"`
}

// Actions of a TaskResponse.
const (
	actionSuccess      = "Success"
	actionFailure      = "Failure"
	actionConfirmation = "Confirmation"
)

// taskReport takes what keadm 1.16 and newer sends.
func (s *Server) taskReport(r *http.Request) reply {
	report := Report{TaskType: r.PathValue("taskType"), TaskID: r.PathValue("taskID"), Node: r.PathValue("nodeID")}
	return s.takeReport(r, maxReport, func(body []byte) (Report, error) {
		if err := json.Unmarshal(body, &report.Response); err != nil {
			return Report{}, fmt.Errorf("parse task report: %w", err)
		}
		if report.Response.NodeName == "" {
			report.Response.NodeName = report.Node
		}
		return report, nil
	})
}

// legacyUpgrade is what keadm 1.15 and older sends (spec 02 §6.4).
type legacyUpgrade struct {
	UpgradeID   string `json:"UpgradeID"`
	HistoryID   string `json:"HistoryID"`
	NodeName    string `json:"NodeName"`
	FromVersion string `json:"FromVersion"`
	ToVersion   string `json:"ToVersion"`
	Status      string `json:"Status"`
	Reason      string `json:"Reason"`
}

// outcome translates a status into event and action. A roll-back that failed has action Success: so the reference maps
// it, and the state machine of the jobs counts both actions of a roll-back as a failed upgrade.
func (u legacyUpgrade) outcome() (event, action string, err error) {
	switch u.Status {
	case "upgrade_success":
		return "Upgrade", actionSuccess, nil
	case "upgrade_failed_rollback_success":
		return "Rollback", actionFailure, nil
	case "upgrade_failed_rollback_failed":
		return "Rollback", actionSuccess, nil
	default:
		return "", "", fmt.Errorf("unknown upgrade status %.64q", u.Status)
	}
}

func (s *Server) legacyUpgradeReport(r *http.Request) reply {
	return s.takeReport(r, maxLegacyReport, func(body []byte) (Report, error) {
		var u legacyUpgrade
		if err := json.Unmarshal(body, &u); err != nil {
			return Report{}, fmt.Errorf("parse upgrade report: %w", err)
		}
		event, action, err := u.outcome()
		if err != nil {
			return Report{}, err
		}
		return Report{
			TaskType: taskUpgrade, TaskID: u.UpgradeID, Node: u.NodeName,
			Response:  TaskResponse{NodeName: u.NodeName, Event: event, Action: action, Reason: u.Reason},
			HistoryID: u.HistoryID, FromVersion: u.FromVersion, ToVersion: u.ToVersion,
		}, nil
	})
}

// takeReport identifies the reporter, reads and parses the body, and hands the report on. A body is read only for
// somebody known, and only with a free slot.
func (s *Server) takeReport(r *http.Request, limit int64, parse func([]byte) (Report, error)) reply {
	mayReport, err := s.reporter(r)
	if err != nil {
		return answerTo(r, err, "Task report not taken", "internal error")
	}
	select {
	case s.reportSlots <- struct{}{}:
		defer func() { <-s.reportSlots }()
	default:
		return text(http.StatusServiceUnavailable, "too many reports at once")
	}
	body, err := readBody(r, limit)
	if err != nil {
		return text(http.StatusBadRequest, "read task report: %s", err.Error())
	}
	report, err := parse(body)
	if err == nil {
		err = report.check()
	}
	if err != nil {
		return text(http.StatusBadRequest, "%s", err.Error())
	}
	if !mayReport(report.Node) {
		return text(http.StatusForbidden, "certificate is for another node")
	}
	if err := s.deps.Reports(r.Context(), report); err != nil {
		klog.FromContext(r.Context()).Error(err, "Task report not taken", "node", report.Node, "task", report.TaskID)
		return text(http.StatusServiceUnavailable, "report was not taken, try again")
	}
	klog.FromContext(r.Context()).V(2).Info("Task report taken", "node", report.Node, "task", report.TaskID, "taskType", report.TaskType)
	return text(http.StatusOK, "ok")
}

// reporter tells for which nodes the client certificate may report.
func (s *Server) reporter(r *http.Request) (func(node string) bool, error) {
	if s.cfg.AllowAnonymousReports {
		return func(string) bool { return true }, nil
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, refuse(http.StatusUnauthorized, reasonNoCredentials, "a report needs the certificate of its node")
	}
	peer, err := s.deps.Verifier.VerifyPeer(r.TLS.PeerCertificates)
	var refused *pki.RefusalError
	switch {
	case errors.As(err, &refused):
		return nil, refuse(http.StatusUnauthorized, refused.Reason, "certificate validation failure, %s", refused.Error())
	case err != nil:
		return nil, fmt.Errorf("verify certificate: %w", err)
	}
	return peer.MayActAs, nil
}

// check keeps anything out of a message route that does not belong there.
func (r Report) check() error {
	switch {
	case len(validation.IsDNS1123Label(r.TaskType)) != 0:
		return fmt.Errorf("%.64q is not a task type", r.TaskType)
	case len(validation.IsDNS1123Subdomain(r.TaskID)) != 0:
		return fmt.Errorf("%.64q is not a task name", r.TaskID)
	case len(validation.IsDNS1123Subdomain(r.Node)) != 0:
		return fmt.Errorf("%.64q is not a node name", r.Node)
	case r.Response.NodeName != r.Node:
		return errors.New("the report is about another node than its address")
	}
	switch r.Response.Action {
	case actionSuccess, actionFailure, actionConfirmation:
		return nil
	default:
		return fmt.Errorf("unknown action %.64q", r.Response.Action)
	}
}
