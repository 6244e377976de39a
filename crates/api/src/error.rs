//! The errors of all services: one small set of codes, mapped to gRPC and to HTTP here and nowhere else.

use crate::details;

/// What kind of error it is, as a caller needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request breaks a rule: mend it, then try again.
    Invalid,
    /// The method is not served at this path (HTTP 405).
    NoSuchMethod,
    /// The caller did not show the secret.
    Unauthenticated,
    /// The caller has proved who it is, and may not do this.
    Forbidden,
    /// What was asked for does not exist.
    NotFound,
    /// The system is not in a state to do it: the message says what must happen first.
    Precondition,
    /// The content is of a form that is not taken (HTTP 415).
    UnsupportedMedia,
    /// The content can be read but not be used (HTTP 422).
    Unprocessable,
    /// The body is larger than allowed (HTTP 413).
    TooLarge,
    /// A limit is met: ask for less, or later.
    Exhausted,
    /// A part that is needed cannot be reached: try again.
    Unavailable,
    /// Not visible, or not done, within the caller's deadline.
    DeadlineExceeded,
    /// The caller was too slow to send the request (HTTP 408).
    SlowRequest,
    /// The contract has it, this release does not.
    Unimplemented,
    /// The caller, or an operator, has cancelled it.
    Cancelled,
    /// What was stored is damaged: nothing can be made of it.
    DataLoss,
    /// A fault of ours.
    Internal,
}

impl Code {
    /// The status of gRPC.
    pub fn grpc(self) -> tonic::Code {
        match self {
            Self::Invalid | Self::UnsupportedMedia | Self::Unprocessable => tonic::Code::InvalidArgument,
            Self::Unauthenticated => tonic::Code::Unauthenticated,
            Self::Forbidden => tonic::Code::PermissionDenied,
            Self::NotFound => tonic::Code::NotFound,
            Self::Precondition => tonic::Code::FailedPrecondition,
            Self::TooLarge | Self::Exhausted => tonic::Code::ResourceExhausted,
            Self::Unavailable => tonic::Code::Unavailable,
            Self::DeadlineExceeded | Self::SlowRequest => tonic::Code::DeadlineExceeded,
            Self::Unimplemented | Self::NoSuchMethod => tonic::Code::Unimplemented,
            Self::Cancelled => tonic::Code::Cancelled,
            Self::DataLoss => tonic::Code::DataLoss,
            Self::Internal => tonic::Code::Internal,
        }
    }

    /// Name of gRPC's status, as metrics have it.
    pub fn name(self) -> &'static str {
        match self.grpc() {
            tonic::Code::InvalidArgument => "invalid_argument",
            tonic::Code::Unauthenticated => "unauthenticated",
            tonic::Code::PermissionDenied => "permission_denied",
            tonic::Code::NotFound => "not_found",
            tonic::Code::FailedPrecondition => "failed_precondition",
            tonic::Code::ResourceExhausted => "resource_exhausted",
            tonic::Code::Unavailable => "unavailable",
            tonic::Code::DeadlineExceeded => "deadline_exceeded",
            tonic::Code::Unimplemented => "unimplemented",
            tonic::Code::Cancelled => "cancelled",
            tonic::Code::DataLoss => "data_loss",
            _ => "internal",
        }
    }

    /// What kind of error it is, as a program can tell it from the others of the same status of gRPC: the `reason` of `google.rpc.ErrorInfo`. Part of the
    /// contract: it stays as it is.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "INVALID_REQUEST",
            Self::NoSuchMethod => "NO_SUCH_METHOD",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::Precondition => "NOT_IN_STATE",
            Self::UnsupportedMedia => "UNSUPPORTED_MEDIA",
            Self::Unprocessable => "UNPROCESSABLE",
            Self::TooLarge => "TOO_LARGE",
            Self::Exhausted => "LIMIT_MET",
            Self::Unavailable => "UNREACHABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::SlowRequest => "SLOW_REQUEST",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Cancelled => "CANCELLED",
            Self::DataLoss => "DATA_LOSS",
            Self::Internal => "INTERNAL",
        }
    }

    /// The status of HTTP.
    pub fn http(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::NoSuchMethod => 405,
            Self::SlowRequest => 408,
            Self::Precondition => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMedia => 415,
            Self::Unprocessable => 422,
            Self::Exhausted => 429,
            Self::Cancelled => 499,
            Self::DataLoss | Self::Internal => 500,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }

    /// The code of an issue in an `OperationOutcome` (FHIR R4 value set `issue-type`).
    pub fn issue_type(self) -> &'static str {
        match self {
            Self::Invalid | Self::Unprocessable => "invalid",
            Self::Unauthenticated => "login",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::Precondition => "conflict",
            Self::TooLarge => "too-long",
            Self::UnsupportedMedia | Self::Unimplemented | Self::NoSuchMethod => "not-supported",
            Self::Exhausted => "throttled",
            Self::Unavailable => "transient",
            Self::DeadlineExceeded | Self::SlowRequest => "timeout",
            Self::Cancelled => "processing",
            Self::DataLoss | Self::Internal => "exception",
        }
    }
}

/// An error as the caller gets it. The message says the field, the rule and what to do; it never holds content of a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    /// Kind.
    pub code: Code,
    /// For the caller.
    pub message: String,
    /// Path of the field of the request that breaks a rule; `None` where it is not one.
    pub field: Option<String>,
    /// Why, where a program may want to know it more exactly than [`Code::reason`] has it. Part of the contract, as that is.
    pub reason: Option<&'static str>,
}

impl ServiceError {
    /// An error of a kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
            reason: None,
        }
    }

    /// A field of the request breaks a rule.
    pub fn invalid(field: impl Into<String>, rule: impl std::fmt::Display) -> Self {
        let field = field.into();
        Self::new(Code::Invalid, format!("{field}: {rule}")).at(field)
    }

    /// It is this field that breaks the rule, unless one is named already.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field.get_or_insert_with(|| field.into());
        self
    }

    /// Says more exactly why.
    #[must_use]
    pub fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// What was asked for cannot be finished: another replica, or this one once it is back, can do it.
    pub fn stopping() -> Self {
        Self::new(Code::Unavailable, "this service is stopping: try again").because("STOPPING")
    }

    /// A fault of ours: the caller gets no detail, the log has it.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %error, "internal error");
        Self::new(Code::Internal, "internal error: see the service's log")
    }
}

impl From<ServiceError> for tonic::Status {
    fn from(error: ServiceError) -> Self {
        details::status(error)
    }
}

/// What another service of ours answered.
impl From<tonic::Status> for ServiceError {
    fn from(status: tonic::Status) -> Self {
        let code = match status.code() {
            // It is our credentials that it refuses, not those of whoever asks us.
            tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => {
                let message = "another layer refuses this one's credentials: an operator must see to its token or certificate";
                return Self::new(Code::Unavailable, message).because("LAYER_REFUSES_CREDENTIALS");
            }
            tonic::Code::InvalidArgument => Code::Invalid,
            tonic::Code::NotFound => Code::NotFound,
            tonic::Code::FailedPrecondition => Code::Precondition,
            tonic::Code::ResourceExhausted => Code::Exhausted,
            tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
            tonic::Code::Unimplemented => Code::Unimplemented,
            tonic::Code::Cancelled => Code::Cancelled,
            tonic::Code::DataLoss => Code::DataLoss,
            tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Aborted => Code::Unavailable,
            _ => Code::Internal,
        };
        Self::new(code, status.message())
    }
}
