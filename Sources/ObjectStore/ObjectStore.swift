import Bytes
import Runtime
